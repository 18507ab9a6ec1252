"""Prompts as a token tree: what several prompts share from their start on is one chain of nodes.

CLIP's text tower is causal, so the state at a position depends on the tokens up to it and on nothing
behind. Prompts that start alike have, up to where they part, the same states: one node stands for all
of them. A node is constant where no learned vector stands at it or before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from cocoop.text.prompt import Slot


@dataclass(frozen=True, eq=False)
class TokenTree:
    """Nodes in an order in which parents precede children and constant nodes all others.

    Attributes:
        token: vocabulary index of each node, -1 where a learned vector stands.
        ctx: index of the learned vector of each node, -1 for a token.
        cls: class of the learned vector, -1 where all classes share it.
        depth: position in the prompt, 0 for SOT.
        parent: the node before each node in its prompts, -1 for SOT.
        constant: how many nodes are constant; they are the first ones.
        leaves: the last node of every distinct prompt: EOT, or a read-only vector behind it.
        prompt_of: the place in `leaves` of every class; equal names share one.
    """

    token: Int[Tensor, " n"]
    ctx: Int[Tensor, " n"]
    cls: Int[Tensor, " n"]
    depth: Int[Tensor, " n"]
    parent: Int[Tensor, " n"]
    constant: int
    leaves: Int[Tensor, " u"]
    prompt_of: Int[Tensor, " c"]

    @property
    def nodes(self) -> int:
        """N, the number of distinct positions."""
        return len(self.token)

    @property
    def varying(self) -> int:
        """How many nodes have a learned vector at or before them."""
        return self.nodes - self.constant

    @property
    def sees(self) -> Int[Tensor, " n"]:
        """The node that each attends to with its ancestors: itself; of a read-only vector the one before."""
        reads = self.leaves[self.ctx[self.leaves] >= 0]
        return torch.arange(self.nodes).index_copy(0, reads, self.parent[reads])


def build_tree(prompts: Sequence[Sequence[Slot]]) -> TokenTree:
    """Build the tree of `prompts`, each a sequence of slots that ends where the feature is read.

    Raises:
        ValueError: there is no prompt, or one is empty.
    """
    if not prompts or not all(prompts):
        raise ValueError("a token tree needs at least one prompt, and every prompt at least one token")
    children: dict[tuple[int, Slot], int] = {}  # (parent, slot) -> node
    slots: list[Slot] = []
    parents: list[int] = []
    depths: list[int] = []
    constant: list[bool] = []
    ends: dict[int, int] = {}  # last node -> place among the distinct prompts
    prompt_of: list[int] = []
    for prompt in prompts:
        node = -1
        for depth, slot in enumerate(prompt):
            parent = node
            node = children.setdefault((parent, slot), len(slots))
            if node == len(slots):
                slots.append(slot)
                parents.append(parent)
                depths.append(depth)
                constant.append(slot.ctx < 0 and (parent < 0 or constant[parent]))
        prompt_of.append(ends.setdefault(node, len(ends)))
    order = sorted(range(len(slots)), key=lambda node: not constant[node])
    place = {node: index for index, node in enumerate(order)} | {-1: -1}
    return TokenTree(
        token=torch.tensor([slots[node].token for node in order]),
        ctx=torch.tensor([slots[node].ctx for node in order]),
        cls=torch.tensor([slots[node].cls for node in order]),
        depth=torch.tensor([depths[node] for node in order]),
        parent=torch.tensor([place[parents[node]] for node in order]),
        constant=sum(constant),
        leaves=torch.tensor([place[node] for node in ends]),
        prompt_of=torch.tensor(prompt_of),
    )


class Stage(NamedTuple):
    """A tree, and the transformer blocks that its nodes go through."""

    tree: TokenTree
    blocks: range


def build_stages(prompts: Sequence[tuple[Slot, ...]], blocks: int, shared_blocks: int = 0) -> list[Stage]:
    """Return the tree of `prompts` for all blocks, or two trees: one for the blocks before they part.

    Prompts whose learned vectors do not differ yet share the nodes behind these too: the constant nodes of
    both trees are the same. Below the block that vectors come in before, prompts are without them: all nodes
    of that tree are constant.
    """
    late = max(slot.block for prompt in prompts for slot in prompt)
    if late:
        earlier = [tuple(slot for slot in prompt if not slot.block) for prompt in prompts]
    elif shared_blocks:
        earlier = [_unmarked(prompt) for prompt in prompts]
    else:
        return [Stage(build_tree(prompts), range(blocks))]
    change = late or shared_blocks
    return [Stage(build_tree(earlier), range(change)), Stage(build_tree(prompts), range(change, blocks))]


def origins(tree: TokenTree, earlier: TokenTree) -> Int[Tensor, " n"]:
    """Return the node of `earlier` that each node of `tree` parts from: that of the same prompt and place.

    A vector that comes in parts from no node; any stands for it, as its state is overwritten.
    """
    found = torch.zeros(tree.nodes, dtype=torch.long)
    comes_in = (tree.ctx >= 0) & (earlier.varying == 0)
    ours, theirs = (each.leaves[each.prompt_of] for each in (tree, earlier))
    while len(ours):
        both = ~comes_in[ours]
        found[ours[both]] = theirs[both]
        ours, theirs = tree.parent[ours], torch.where(both, earlier.parent[theirs], theirs)
        ours, theirs = ours[ours >= 0], theirs[ours >= 0]
    return found


def in_order(prompts: Sequence[tuple[Slot, ...]], shared_blocks: int = 0) -> list[int]:
    """Return the places of prompts, sorted: those that start alike in the first tree stand together."""
    keys = [_unmarked(prompt) for prompt in prompts] if shared_blocks else prompts
    return sorted(range(len(keys)), key=keys.__getitem__)


def _unmarked(prompt: tuple[Slot, ...]) -> tuple[Slot, ...]:
    """Return the slots of a prompt as they are where all classes share the learned vectors."""
    return tuple(slot._replace(cls=-1) for slot in prompt)
