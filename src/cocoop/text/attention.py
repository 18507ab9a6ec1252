"""Causal attention along the paths of a token tree.

A node attends to its ancestors, which are the places before it on any path through it. So the nodes'
queries, keys and values are laid out path by path, attended to causally, and one row a node is read back.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def path_attention(
    qkv: Float[Tensor, "b n w3"], paths: Int[Tensor, "u t"], rows: Int[Tensor, " k"], heads: int
) -> Float[Tensor, "b k w"]:
    """Attend along every path.

    Args:
        qkv: queries, keys and values of every node, side by side.
        paths: nodes of every path.
        rows: places in the flattened `paths` to return.
        heads: attention heads.

    Keeps only `qkv` for the backward pass: laying out the paths again costs less than keeping them.
    """
    out: Tensor = _PathAttention.apply(qkv, paths, rows, heads)
    return out


def end_attention(
    q: Float[Tensor, "b u w"],
    kv: Float[Tensor, "b n w2"],
    paths: Int[Tensor, "u t"],
    lengths: Int[Tensor, " u"],
    heads: int,
) -> Float[Tensor, "b u w"]:
    """Attend from the last place of every path, with queries of its own, to the whole path."""
    k, v = _gather(kv, paths).unflatten(-1, (2, heads, -1)).permute(3, 0, 1, 4, 2, 5).flatten(1, 2)
    queries = q.unflatten(-1, (heads, -1)).flatten(0, 1)[:, :, None]
    mask = torch.arange(paths.shape[1], device=q.device) < lengths[:, None]
    mask = mask.repeat(len(q), 1)[:, None, None]
    out = F.scaled_dot_product_attention(queries, k, v, attn_mask=mask)
    return out.flatten(1).unflatten(0, q.shape[:2])


class _PathAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, paths: Tensor, rows: Tensor, heads: int) -> Tensor:
        ctx.save_for_backward(qkv, paths, rows)
        ctx.heads = heads
        return _attend(qkv, paths, rows, heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        qkv, paths, rows = ctx.saved_tensors
        with torch.enable_grad():
            qkv = qkv.detach().requires_grad_()
            out = _attend(qkv, paths, rows, ctx.heads)
        return torch.autograd.grad(out, qkv, gradient)[0], None, None, None


def _attend(qkv: Tensor, paths: Tensor, rows: Tensor, heads: int) -> Tensor:
    q, k, v = _gather(qkv, paths).unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5).flatten(1, 2)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return out.transpose(1, 2).reshape(len(qkv), paths.numel(), -1)[:, rows]


def _gather(values: Float[Tensor, "b n w"], paths: Int[Tensor, "u t"]) -> Float[Tensor, "b u t w"]:
    # as an embedding look-up, whose backward pass adds up shared rows in a fixed order
    offsets = torch.arange(len(values), device=values.device)[:, None, None] * values.shape[1]
    return F.embedding(paths + offsets, values.flatten(0, 1))
