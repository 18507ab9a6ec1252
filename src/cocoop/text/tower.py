"""A frozen text tower taken apart: the steps of a transformer block as functions of its weights.

Only what the token tree is exact for is accepted: causal attention, the feature read at EOT, the
standard pre-norm block. Every other tower is refused with the reason.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.errors import CocoopError

EOT_POOLS = ("argmax", "eos")


@dataclass(frozen=True, eq=False)
class Block:
    """One pre-norm residual attention block with frozen weights.

    The residual stream and the layer norms keep the precision they are given; the matrix products compute
    in that of the linear layers.
    """

    norm_1: nn.Module
    attention: nn.MultiheadAttention
    scale_1: nn.Module
    norm_2: nn.Module
    widen: nn.Linear
    activation: Callable[[Tensor], Tensor]
    narrow: nn.Linear
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
        x = x + self.scale_1(self.attention.out_proj(attended))
        hidden = self.activation(self.widen(self.norm_2(x).to(self.widen.weight.dtype)))
        return x + self.scale_2(self.narrow(hidden))

    def _project(self, x: Float[Tensor, "*n w"], rows: slice) -> Float[Tensor, "*n p"]:
        weight, bias = self.attention.in_proj_weight[rows], self.attention.in_proj_bias[rows]
        return F.linear(self.norm_1(x).to(weight.dtype), weight, bias)


class TextTower:
    """The weights of an open_clip text transformer, of either model class.

    Args:
        model: an open_clip `CLIP` or `CustomTextCLIP`.
        dtype: of the matrix products inside the blocks, which then work on copies of the weights; None
            for that of the weights.

    Raises:
        CocoopError: the tower is not a causal, EOT-pooled CLIP text transformer.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        text: Any = getattr(model, "text", model)
        if reason := _refusal(model, text):
            raise CocoopError(f"the text tower of this backbone cannot be used: {reason}")
        self.token_embedding: Tensor = text.token_embedding.weight
        self.positional_embedding: Tensor = text.positional_embedding
        self.dtype = dtype or self.token_embedding.dtype
        self.blocks = [_block(block, self.dtype) for block in text.transformer.resblocks]
        self.heads: int = self.blocks[0].attention.num_heads
        self.width: int = int(self.token_embedding.shape[1])
        self._norm: nn.Module = text.ln_final
        self._projection: nn.Linear | Tensor | None = text.text_projection

    @property
    def embed_dim(self) -> int:
        """d, the size of the text features."""
        if self._projection is None:
            return self.width
        return int(
            self._projection.weight.shape[0]
            if isinstance(self._projection, nn.Linear)
            else self._projection.shape[1]
        )

    def project(self, x: Float[Tensor, "*n w"]) -> Float[Tensor, "*n d"]:
        """Final layer norm and projection into the joint embedding."""
        x = self._norm(x)
        if self._projection is None:
            return x
        return self._projection(x) if isinstance(self._projection, nn.Linear) else x @ self._projection


def _block(block: Any, dtype: torch.dtype) -> Block:
    mlp = block.mlp
    activation = quick_gelu if isinstance(mlp.gelu, QuickGELU) else mlp.gelu
    attention, widen, narrow = (_cast(part, dtype) for part in (block.attn, mlp.c_fc, mlp.c_proj))
    return Block(block.ln_1, attention, block.ls_1, block.ln_2, widen, activation, narrow, block.ls_2)


def _cast(module: Any, dtype: torch.dtype) -> Any:
    """Return the module itself where its weights have the type, else a copy."""
    same = all(parameter.dtype == dtype for parameter in module.parameters())
    return module if same else deepcopy(module).to(dtype)


def quick_gelu(x: Float[Tensor, "*n h"]) -> Float[Tensor, "*n h"]:
    """x sigmoid(1.702 x) through a fused kernel that keeps one tensor for its backward pass, not two.

    Overwrites `x`, which nothing else needs: the layer before it is frozen.
    """
    return F.silu(x.mul_(1.702)).mul_(1 / 1.702)


def _refusal(model: Any, text: Any) -> str | None:
    if not hasattr(text, "transformer") or not hasattr(text.transformer, "resblocks"):
        return "it is not an open_clip text transformer (a Hugging Face tower, for instance)"
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    if pool not in EOT_POOLS:
        return f"its feature is pooled by {pool!r}, not read at the end-of-text token"
    if text.attn_mask is None or not _is_causal(text.attn_mask):
        return "its attention is not causal"
    if getattr(text, "cls_emb", None) is not None:
        return "it appends a class token of its own (CoCa)"
    if getattr(model, "logit_bias", None) is not None:
        return "its logits have a learned bias (SigLIP)"
    if not all(_is_standard(block) for block in text.transformer.resblocks):
        return "its transformer blocks are not CLIP's"
    return None


def _is_causal(mask: Tensor) -> bool:
    future = torch.ones_like(mask, dtype=torch.bool).triu(1)
    return bool((mask[future] == -torch.inf).all() and (mask[~future] == 0).all())


def _is_standard(block: Any) -> bool:
    parts = ("ln_1", "attn", "ls_1", "ln_2", "mlp", "ls_2")
    return all(hasattr(block, part) for part in parts) and isinstance(block.attn, nn.MultiheadAttention)
