"""The computation of some classes' prompts: the nodes of their token tree through the text tower."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cocoop.text.attention import BlockMask, attend, block_mask
from cocoop.text.prompt import Prompt, Slot
from cocoop.text.tower import TextTower
from cocoop.text.tree import Stage, build_stages, origins


class _Constant(NamedTuple):
    """What the constant nodes are in a tower.

    Attributes:
        past: their keys and values in each block; none where no varying node sees them.
        ends: their states behind the blocks of each stage.
        features: of the prompts, where all nodes are constant.
    """

    past: list[Float[Tensor, "n w2"]]
    ends: list[Float[Tensor, "n w"]]
    features: Float[Tensor, "u d"] | None


class Chunk:
    """The token tree of some classes, with what its constant nodes are in the frozen tower.

    Args:
        tower: the frozen text tower.
        prompt: says which blocks learned vectors stand before, and which of these blocks the classes share.
        slots: the prompt of every class.
        normalise: whether features have unit length.
    """

    def __init__(
        self, tower: TextTower, prompt: Prompt, slots: Sequence[tuple[Slot, ...]], normalise: bool
    ) -> None:
        self._tower = tower
        self._normalise = normalise
        device = tower.token_embedding.device
        stages = build_stages(slots, len(tower.blocks), prompt.shared_blocks)
        self._stages = [
            _stage(stage, before, device) for before, stage in zip([None, *stages], stages, strict=False)
        ]
        first, tree = stages[0].tree, stages[-1].tree
        self.varying = tree.varying
        self._n_ctx = int(tree.ctx.max()) + 1
        self._first, self._deeper = prompt.inserted, prompt.deeper
        self._prompt_of = tree.prompt_of.to(device)
        self._leaves = (tree.leaves - tree.constant).to(device)  # among the varying nodes
        self._last_mask = block_mask(tree.parent.tolist(), tree.sees[tree.leaves].tolist()).to(device)
        with torch.no_grad():
            embedded = tower.token_embedding[first.token.clamp(min=0).to(device)]
            depth = first.depth.clamp(max=len(tower.positional_embedding) - 1)  # EOT may be the last there is
            positions = tower.positional_embedding[depth.to(device)]
            self._embedded = (embedded + positions)[first.constant :]
            self._positions = positions[first.constant :][self._stages[0].learned] * (not prompt.read_only)
            self._constant = (embedded + positions)[: first.constant]
            self._ends = tree.leaves.to(device)
            self._known = self._run_constant(tower)

    def __call__(
        self, contexts: Float[Tensor, "b classes m w"], tower: TextTower | None = None
    ) -> Float[Tensor, "b c d"]:
        """Return the text features.

        Args:
            contexts: those of `TextEncoder`.
            tower: the same with a method's changes, in which no state is constant; None without any.
        """
        known = self._run_constant(tower) if tower else self._known
        tower = tower or self._tower
        fixed = known.features
        features = fixed[None] if fixed is not None else tower.project(self._run(tower, known, contexts))
        features = F.normalize(features, dim=-1) if self._normalise else features
        return features[:, self._prompt_of]

    def _run(
        self, tower: TextTower, known: _Constant, contexts: Float[Tensor, "b classes m w"]
    ) -> Float[Tensor, "b u w"]:
        """Put the learned vectors at their nodes, run these through all blocks; return the last states."""
        first, *others = contexts.split(self._n_ctx, dim=2)
        deeper = self._deeper or range(self._first + 1, self._first + 1 + len(others))
        vectors = {self._first: first, **dict(zip(deeper, others, strict=True))}
        x = self._embedded.to(contexts.dtype).expand(contexts.shape[0], -1, -1)
        if 0 in vectors:
            start = self._stages[0]
            x = x.index_copy(1, start.learned, start.pick(vectors.pop(0)) + self._positions)
        for stage, before in zip(self._stages, [None, *known.ends], strict=False):
            if before is not None:
                x = _join(before.to(x.dtype), x)[:, stage.origin]
            for number in stage.blocks:
                if number in vectors:
                    x = x.index_copy(1, stage.learned, stage.pick(vectors[number]))
                if number < len(known.past) - 1:
                    x = _block(tower, number, x, known.past[number], stage.mask)
        last, ends = tower.blocks[-1], x[:, self._leaves]  # the last block runs for the ends alone
        kv = _join(known.past[-1], last.kv(x))
        return last.finish(ends, attend(last.q(ends), kv, self._last_mask, tower.heads))

    def _run_constant(self, tower: TextTower) -> _Constant:
        """Run the constant nodes."""
        x, past, ends = self._constant, [], []
        for stage in self._stages:
            x = x if stage.constant is None else x[stage.constant]
            for number in stage.blocks:
                block = tower.blocks[number]
                q, kv = block.qkv(x).split((x.shape[-1], 2 * x.shape[-1]), dim=-1)
                past.append(kv if stage.varying else kv.new_empty(0, kv.shape[-1]))
                x = block.finish(x, attend(q[None], kv[None], stage.constant_mask, tower.heads)[0])
            ends.append(x)
        return _Constant(past, ends, None if self.varying else tower.project(x[self._ends]))


def _block(
    tower: TextTower, number: int, x: Float[Tensor, "b n w"], past: Float[Tensor, "m w2"], mask: BlockMask
) -> Float[Tensor, "b n w"]:
    block = tower.blocks[number]
    q, kv = block.qkv(x).split((x.shape[-1], 2 * x.shape[-1]), dim=-1)
    return block.finish(x, attend(q, _join(past, kv), mask, tower.heads))


@dataclass(frozen=True, eq=False)
class _Stage:
    """The nodes of one tree, in the blocks that they go through.

    Attributes:
        blocks: which these are.
        varying: how many nodes vary.
        mask: what these attend to.
        constant_mask: what the constant nodes attend to.
        learned: the varying nodes where learned vectors stand.
        ctx: the vector of each of these.
        cls: its class; 0 where all classes share it.
        origin: of every varying node, the one of the stage before that it takes its state from.
        constant: of every constant node the same, among those; None in the first stage.
    """

    blocks: range
    varying: int
    mask: BlockMask
    constant_mask: BlockMask
    learned: Int[Tensor, " l"]
    ctx: Int[Tensor, " l"]
    cls: Int[Tensor, " l"]
    origin: Int[Tensor, " n"] | None
    constant: Int[Tensor, " k"] | None

    def pick(self, vectors: Float[Tensor, "b classes m w"]) -> Float[Tensor, "b l w"]:
        """Return the learned vector of every node where one stands."""
        return vectors[:, self.cls if vectors.shape[1] > 1 else torch.zeros_like(self.cls), self.ctx]


def _stage(stage: Stage, before: Stage | None, device: torch.device) -> _Stage:
    tree, parent = stage.tree, stage.tree.parent.tolist()
    learned = (tree.ctx >= 0).nonzero()[:, 0]
    taken = origins(tree, before.tree).to(device) if before else None
    return _Stage(
        blocks=stage.blocks,
        varying=tree.varying,
        mask=block_mask(parent, tree.sees[tree.constant :].tolist()).to(device),
        constant_mask=block_mask(parent, range(tree.constant)).to(device),
        learned=(learned - tree.constant).to(device),
        ctx=tree.ctx[learned].to(device),
        cls=tree.cls[learned].clamp(min=0).to(device),
        origin=None if taken is None else taken[tree.constant :],
        constant=None if taken is None else taken[: tree.constant],
    )


def _join(past: Float[Tensor, "n w2"], kv: Float[Tensor, "b m w2"]) -> Float[Tensor, "b k w2"]:
    """Put the constant nodes' keys and values before the varying ones'."""
    return torch.cat([past.expand(kv.shape[0], -1, -1), kv], dim=1)
