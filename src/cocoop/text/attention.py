"""Attention in a token tree: a node attends to itself and its ancestors, a read-only vector to those alone.

Queries are cut into blocks of equal length. The nodes of a block stand close together in the tree, so
they share most of their ancestors: a block's keys are gathered once, and a mask says which query attends to
which key.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

BLOCK = 32  # queries a block: longer ones spend time on masked pairs, shorter ones on gathering


@dataclass(frozen=True, eq=False)
class BlockMask:
    """Which nodes the queries attend to, block by block.

    Attributes:
        keys: the nodes that any query of a block attends to; short rows are padded.
        allowed: whether a query attends to a key; padded queries attend to the first alone.
    """

    keys: Int[Tensor, "g k"]
    allowed: Bool[Tensor, "g q k"]

    def to(self, device: torch.device) -> "BlockMask":
        """Return the same on another device."""
        return BlockMask(self.keys.to(device), self.allowed.to(device))


def block_mask(parent: Sequence[int], queries: Sequence[int]) -> BlockMask:
    """Return the mask of `queries`, each of which attends to itself and its ancestors.

    Args:
        parent: of every node; -1 for a root.
        queries: nodes, in the order of their rows in `attend`.
    """
    size = min(BLOCK, max(1, len(queries)))
    blocks = [queries[start : start + size] for start in range(0, len(queries), size)]
    attended = [[_path(parent, node) for node in block] for block in blocks]
    keys = [sorted(set().union(*paths)) for paths in attended]
    longest = max(map(len, keys), default=1)
    allowed = torch.zeros(len(blocks), size, longest, dtype=torch.bool)
    allowed[:, :, 0] = True  # of padded queries: attending to nothing would give NaN
    for block, (nodes, paths) in enumerate(zip(keys, attended, strict=True)):
        place = {node: index for index, node in enumerate(nodes)}
        for row, path in enumerate(paths):
            allowed[block, row] = False
            allowed[block, row, [place[node] for node in path]] = True
    padded = [nodes + [nodes[0]] * (longest - len(nodes)) for nodes in keys]
    return BlockMask(torch.tensor(padded, dtype=torch.long).view(len(blocks), longest), allowed)


def attend(
    q: Float[Tensor, "b n w"], kv: Float[Tensor, "b m w2"], mask: BlockMask, heads: int
) -> Float[Tensor, "b n w"]:
    """Attend from every query to the keys that its mask allows.

    Args:
        q: the queries' own projections.
        kv: keys and values of every node, side by side.
        mask: of the queries, over the nodes.
        heads: attention heads.
    """
    images, count, _ = q.shape
    if not count:
        return q
    blocks, size, _ = mask.allowed.shape
    queries = F.pad(q, (0, 0, 0, blocks * size - count)).view(images * blocks, size, heads, -1)
    k, v = _gather(kv, mask.keys).unflatten(-1, (2, heads, -1)).flatten(0, 1).unbind(2)
    out = F.scaled_dot_product_attention(
        queries.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask.allowed.repeat(images, 1, 1)[:, None],
    )
    return out.transpose(1, 2).reshape(images, blocks * size, -1)[:, :count]


def _path(parent: Sequence[int], node: int) -> list[int]:
    """Return a node and its ancestors."""
    path = []
    while node >= 0:
        path.append(node)
        node = parent[node]
    return path


def _gather(values: Float[Tensor, "b n w"], keys: Int[Tensor, "g k"]) -> Float[Tensor, "b g k w"]:
    # as an embedding look-up, whose backward pass adds up shared rows in a fixed order
    offsets = torch.arange(values.shape[0], device=values.device)[:, None, None] * values.shape[1]
    return F.embedding(keys + offsets, values.flatten(0, 1))
