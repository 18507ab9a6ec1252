"""A frozen text tower taken apart into embeddings, blocks and projection.

Only what the token tree is exact for has such parts: causal attention, the feature read at EOT, the standard
pre-norm block. Every other tower runs its own forward (`cocoop.text.padded`).
"""

from copy import copy
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.block import Changes, Step, take_apart
from cocoop.backbones.text_model import TextModel
from cocoop.errors import CocoopError


class TextTower:
    """The weights of a text transformer that the token tree is exact for.

    Args:
        text: of a backbone.
        dtype: of the matrix products inside the blocks, which then work on copies of the weights; None
            for that of the weights.

    Raises:
        CocoopError: the tower is not a causal, EOT-pooled CLIP text transformer.
    """

    def __init__(self, text: TextModel, dtype: torch.dtype | None = None) -> None:
        if text.transformer is None:
            raise CocoopError(f"a token tree is not exact for the text tower of this backbone: {text.reason}")
        parts = text.transformer()
        self.token_embedding: Tensor = cast(Tensor, text.embedding.weight)
        self.positional_embedding: Tensor = parts.positions
        self.dtype = dtype or self.token_embedding.dtype
        self.blocks = [take_apart(layer, self.dtype) for layer in parts.layers]
        self.heads: int = parts.heads
        self.width: int = text.width
        self.embed_dim = text.embed_dim
        self._norm: Step = parts.norm
        self._projection = parts.projection

    def changed(self, changes: Changes) -> "TextTower":
        """Return the tower as it is with a method's changes."""
        other = copy(self)
        other.blocks = changes.of(self.blocks)
        other._norm = changes.norm or self._norm
        return other

    def project(self, x: Float[Tensor, "*n w"]) -> Float[Tensor, "*n d"]:
        """Final layer norm and projection into the joint embedding."""
        x = self._norm(x)
        if self._projection is None:
            return x
        return self._projection(x) if isinstance(self._projection, nn.Module) else x @ self._projection
