"""A frozen text tower taken apart: the steps of a transformer block as functions of its weights.

Only what the token tree is exact for has such parts: causal attention, the feature read at EOT, the standard
pre-norm block. Every other tower runs its own forward (`cocoop.text.padded`).
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.text_model import Layer, TextModel
from cocoop.errors import CocoopError


@dataclass(frozen=True, eq=False)
class Block:
    """One pre-norm residual attention block with frozen weights.

    The residual stream and the layer norms keep the precision they are given; the matrix products compute
    in that of the linear layers.
    """

    norm_1: nn.Module
    in_proj: nn.Linear
    out_proj: nn.Module
    scale_1: nn.Module
    norm_2: nn.Module
    widen: nn.Linear
    activation: Callable[[Tensor], Tensor]
    narrow: nn.Module
    scale_2: nn.Module

    def qkv(self, x: Float[Tensor, "*n w"]) -> Float[Tensor, "*n w3"]:
        """Normalise, then project to queries, keys and values side by side."""
        return self._project(x, slice(None))

    def q(self, x: Float[Tensor, "*n w"]) -> Float[Tensor, "*n w"]:
        """Normalise, then project to queries."""
        return self._project(x, slice(x.shape[-1]))

    def kv(self, x: Float[Tensor, "*n w"]) -> Float[Tensor, "*n w2"]:
        """Normalise, then project to keys and values side by side."""
        return self._project(x, slice(x.shape[-1], None))

    def finish(self, x: Float[Tensor, "*n w"], attended: Float[Tensor, "*n w"]) -> Float[Tensor, "*n w"]:
        """Add the projected attention output to the residual stream, then the MLP's."""
        x = x + self.scale_1(self.out_proj(attended))
        hidden = self.activation(self.widen(self.norm_2(x).to(self.widen.weight.dtype)))
        return x + self.scale_2(self.narrow(hidden))

    def _project(self, x: Float[Tensor, "*n w"], rows: slice) -> Float[Tensor, "*n p"]:
        weight, bias = self.in_proj.weight[rows], self.in_proj.bias[rows]
        return F.linear(self.norm_1(x).to(weight.dtype), weight, bias)


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
        self.blocks = [_block(layer, self.dtype) for layer in parts.layers]
        self.heads: int = parts.heads
        self.width: int = text.width
        self.embed_dim = text.embed_dim
        self._norm = parts.norm
        self._projection = parts.projection

    def project(self, x: Float[Tensor, "*n w"]) -> Float[Tensor, "*n d"]:
        """Final layer norm and projection into the joint embedding."""
        x = self._norm(x)
        if self._projection is None:
            return x
        return self._projection(x) if isinstance(self._projection, nn.Module) else x @ self._projection


def _block(layer: Layer, dtype: torch.dtype) -> Block:
    qkv, out, widen, narrow = (
        _cast(part, dtype) for part in (layer.qkv, layer.out, layer.widen, layer.narrow)
    )
    activation = layer.activation or quick_gelu
    return Block(
        layer.norm_1, qkv, out, layer.scale_1, layer.norm_2, widen, activation, narrow, layer.scale_2
    )


def _cast(module: Any, dtype: torch.dtype) -> Any:
    """Return the module itself where its weights have the type, else a copy."""
    same = all(parameter.dtype == dtype for parameter in module.parameters())
    return module if same else deepcopy(module).to(dtype)


def quick_gelu(x: Float[Tensor, "*n h"]) -> Float[Tensor, "*n h"]:
    """x sigmoid(1.702 x) through a fused kernel that keeps one tensor for its backward pass, not two.

    Overwrites `x`, which nothing else needs: the layer before it is frozen.
    """
    return F.silu(x.mul_(1.702)).mul_(1 / 1.702)
