"""Attention in a token tree: a node attends to itself and its ancestors.

Queries are cut into blocks of equal length. The nodes of a block stand close together in the tree, so
they share most of what they see: a block's keys are gathered once, and a mask says who sees which.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

BLOCK = 32  # queries a block: longer ones spend time on masked pairs, shorter ones on gathering


@dataclass(frozen=True, eq=False)
class Sight:
    """What the queries see.

    Attributes:
        keys: the nodes that any query of a block sees; short rows are padded.
        mask: whether a query sees a key; padded queries see the first alone.
    """

    keys: Int[Tensor, "g k"]
    mask: Bool[Tensor, "g q k"]

    def to(self, device: torch.device) -> "Sight":
        """Return the same on another device."""
        return Sight(self.keys.to(device), self.mask.to(device))


def sight(parent: Sequence[int], queries: Sequence[int]) -> Sight:
    """Lay out what `queries` see.

    Args:
        parent: of every node; -1 for a root.
        queries: nodes, in the order of their rows in `attend`.
    """
    size = min(BLOCK, max(1, len(queries)))
    blocks = [queries[start : start + size] for start in range(0, len(queries), size)]
    lines = [[_line(parent, node) for node in block] for block in blocks]
    keys = [sorted(set().union(*block)) for block in lines]
    longest = max(map(len, keys), default=1)
    mask = torch.zeros(len(blocks), size, longest, dtype=torch.bool)
    mask[:, :, 0] = True  # of padded queries: attending to nothing would give NaN
    for block, (seen, lines_of_block) in enumerate(zip(keys, lines, strict=True)):
        place = {node: index for index, node in enumerate(seen)}
        for row, line in enumerate(lines_of_block):
            mask[block, row] = False
            mask[block, row, [place[node] for node in line]] = True
    padded = [seen + [seen[0]] * (longest - len(seen)) for seen in keys]
    return Sight(torch.tensor(padded, dtype=torch.long).view(len(blocks), longest), mask)


def attend(
    q: Float[Tensor, "b n w"], kv: Float[Tensor, "b m w2"], sight: Sight, heads: int
) -> Float[Tensor, "b n w"]:
    """Attend from every query to what it sees.

    Args:
        q: the queries' own projections.
        kv: keys and values of every node, side by side.
        sight: who sees whom.
        heads: attention heads.
    """
    images, count, _ = q.shape
    blocks, size, _ = sight.mask.shape
    queries = F.pad(q, (0, 0, 0, blocks * size - count)).view(images * blocks, size, heads, -1)
    k, v = _gather(kv, sight.keys).unflatten(-1, (2, heads, -1)).flatten(0, 1).unbind(2)
    out = F.scaled_dot_product_attention(
        queries.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=sight.mask.repeat(images, 1, 1)[:, None],
    )
    return out.transpose(1, 2).reshape(images, blocks * size, -1)[:, :count]


def _line(parent: Sequence[int], node: int) -> list[int]:
    """Return a node and its ancestors."""
    line = []
    while node >= 0:
        line.append(node)
        node = parent[node]
    return line


def _gather(values: Float[Tensor, "b n w"], keys: Int[Tensor, "g k"]) -> Float[Tensor, "b g k w"]:
    # as an embedding look-up, whose backward pass adds up shared rows in a fixed order
    offsets = torch.arange(values.shape[0], device=values.device)[:, None, None] * values.shape[1]
    return F.embedding(keys + offsets, values.flatten(0, 1))
