"""Gradients of any size through fp16, whose smallest normal number is 6e-5.

The gradient is brought near 1 by a power of two, which changes no digit, where the backward pass enters
the encoder, and brought back where it leaves it. No loss scale has to be found, and no step is skipped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def scaled(
    encode: Callable[[Tensor], Tensor], contexts: Float[Tensor, "b classes m w"]
) -> Float[Tensor, "b c d"]:
    """Return `encode(contexts)`, its backward pass at a scale of its own for every image."""
    scale = _Scale()
    features: Tensor = _Enter.apply(encode(_Leave.apply(contexts, scale)), scale)
    return features


@dataclass(eq=False)
class _Scale:
    value: Tensor | None = None  # (b, 1, 1), set when a backward pass enters


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, scale: _Scale) -> Tensor:
        ctx.scale = scale
        return features.view_as(features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        largest = gradient.abs().amax((1, 2), keepdim=True)
        exponent = torch.where(largest > 0, largest.log2().floor(), 0)
        ctx.scale.value = torch.exp2(-exponent)
        return gradient * ctx.scale.value, None


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, contexts: Tensor, scale: _Scale) -> Tensor:
        ctx.scale = scale
        return contexts.view_as(contexts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient / ctx.scale.value[..., None], None
