"""A frozen transformer block taken apart: its steps as functions of its weights, which methods may change."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.text_model import Layer

Step = Callable[[Tensor], Tensor]  # of states (*n, w)


@dataclass(frozen=True, eq=False)
class Change:
    """What a method changes in one block, each a function of states; nothing where it is None.

    Attributes:
        norm_1: in place of the layer norm before attention.
        qkv: of what this norm gives (*n, w), added to queries, keys and values side by side (*n, 3w).
        norm_2: in place of the layer norm before the MLP.
        beside: of what the layer norm before attention gives, added to the block's output.
    """

    norm_1: Step | None = None
    qkv: Step | None = None
    norm_2: Step | None = None
    beside: Step | None = None


@dataclass(frozen=True, eq=False)
class Changes:
    """What a method changes in a tower.

    Attributes:
        blocks: in single blocks, by their number from 0.
        norm_pre: in place of the layer norm before the first block, which image towers alone have.
        norm: in place of the one behind the last block.
    """

    blocks: Mapping[int, Change] = field(default_factory=dict)
    norm_pre: Step | None = None
    norm: Step | None = None

    def of(self, blocks: "Sequence[Block]") -> "list[Block]":
        """Return the blocks of a tower as they are with the changes."""
        return [
            block.changed(self.blocks[number]) if number in self.blocks else block
            for number, block in enumerate(blocks)
        ]


UNCHANGED = Changes()


@dataclass(frozen=True, eq=False)
class Block:
    """One pre-norm residual attention block with frozen weights.

    The residual stream and the layer norms keep the precision they are given; the matrix products compute
    in that of the linear layers.
    """

    norm_1: Step
    in_proj: nn.Linear
    out_proj: nn.Module
    scale_1: nn.Module
    norm_2: Step
    widen: nn.Linear
    activation: Callable[[Tensor], Tensor]
    narrow: nn.Module
    scale_2: nn.Module
    added: Step | None = None
    beside: Step | None = None

    def changed(self, change: Change) -> "Block":
        """Return the block as it is with a change."""
        return replace(
            self,
            norm_1=change.norm_1 or self.norm_1,
            added=change.qkv,
            norm_2=change.norm_2 or self.norm_2,
            beside=change.beside,
        )

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
        y = x + self.scale_1(self.out_proj(attended))
        hidden = self.activation(self.widen(self.norm_2(y).to(self.widen.weight.dtype)))
        y = y + self.scale_2(self.narrow(hidden))
        return y if self.beside is None else y + self.beside(self.norm_1(x)).to(y.dtype)

    def _project(self, x: Float[Tensor, "*n w"], rows: slice) -> Float[Tensor, "*n p"]:
        weight, bias = self.in_proj.weight[rows], self.in_proj.bias[rows]
        normed = self.norm_1(x)
        out = F.linear(normed.to(weight.dtype), weight, bias)
        return out if self.added is None else out + self.added(normed)[..., rows].to(out.dtype)


def take_apart(layer: Layer, dtype: torch.dtype) -> Block:
    """Return the steps of a block; in another precision than that of its weights, of copies of these."""
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
