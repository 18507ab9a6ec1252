"""The computation of some classes' prompts: the nodes of their token tree through the text tower."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cocoop.text.attention import BlockMask, attend, block_mask
from cocoop.text.prompt import Prompt, Slot
from cocoop.text.tower import TextTower
from cocoop.text.tree import Stage, TokenTree, build_stages, origins

_Past = list[Tensor]  # keys and values of the constant nodes (n, 2w) in each block


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
        self._deeper = prompt.deeper
        self._normalise = normalise
        device = tower.token_embedding.device
        stages = build_stages(slots, len(tower.blocks), prompt.shared_blocks)
        self._stages = [
            _stage(stage, before, device) for before, stage in zip([None, *stages], stages, strict=False)
        ]
        first, tree = stages[0].tree, stages[-1].tree
        self.varying = tree.varying
        self._n_ctx = int(tree.ctx.max()) + 1
        self._prompt_of = tree.prompt_of.to(device)
        self._leaves = (tree.leaves - tree.constant).to(device)  # among the varying nodes
        self._last_mask = block_mask(tree.parent.tolist(), tree.leaves.tolist()).to(device)
        with torch.no_grad():
            embedded = tower.token_embedding[first.token.clamp(min=0).to(device)]
            positions = tower.positional_embedding[first.depth.to(device)]
            self._embedded = (embedded + positions)[first.constant :]
            self._positions = positions[first.constant :][self._stages[0].learned]
            self._constant = (embedded + positions)[: first.constant]
            self._constant_mask = block_mask(first.parent.tolist(), range(first.constant)).to(device)
            self._ends = tree.leaves.to(device)
            self._past, self._fixed = self._run_constant(tower)

    def __call__(
        self, contexts: Float[Tensor, "b classes m w"], tower: TextTower | None = None
    ) -> Float[Tensor, "b c d"]:
        """Return the text features.

        Args:
            contexts: those of `TextEncoder`.
            tower: the same with a method's changes, in which no state is constant; None without any.
        """
        past, fixed = self._run_constant(tower) if tower else (self._past, self._fixed)
        tower = tower or self._tower
        features = fixed[None] if fixed is not None else tower.project(self._run(tower, past, contexts))
        features = F.normalize(features, dim=-1) if self._normalise else features
        return features[:, self._prompt_of]

    def _run(
        self, tower: TextTower, past: _Past, contexts: Float[Tensor, "b classes m w"]
    ) -> Float[Tensor, "b u w"]:
        """Put the learned vectors at their nodes, run these through all blocks; return the states at EOT."""
        first, *others = contexts.split(self._n_ctx, dim=2)
        deeper = dict(zip(self._deeper or range(1, len(others) + 1), others, strict=True))
        start = self._stages[0]
        x = self._embedded.to(contexts.dtype).expand(contexts.shape[0], -1, -1)
        x = x.index_copy(1, start.learned, start.pick(first) + self._positions)
        for stage in self._stages:
            x = x if stage.origin is None else x[:, stage.origin]
            for number in stage.blocks:
                if number in deeper:
                    x = x.index_copy(1, stage.learned, stage.pick(deeper[number]))
                if number < len(past) - 1:
                    x = _block(tower, number, x, past[number], stage.mask)
        last, ends = tower.blocks[-1], x[:, self._leaves]  # the last block runs for EOT alone
        kv = _join(past[-1], last.kv(x))
        return last.finish(ends, attend(last.q(ends), kv, self._last_mask, tower.heads))

    def _run_constant(self, tower: TextTower) -> tuple[_Past, Float[Tensor, "u d"] | None]:
        """Run the constant nodes; return their keys and values, and the features if all are constant."""
        x = self._constant
        if not len(x):  # nothing stands before the first learned vector, not even SOT
            return [x.new_empty(0, 2 * x.shape[-1]).to(tower.dtype)] * len(tower.blocks), None
        past = []
        for block in tower.blocks:
            q, kv = block.qkv(x).split((x.shape[-1], 2 * x.shape[-1]), dim=-1)
            past.append(kv)
            x = block.finish(x, attend(q[None], kv[None], self._constant_mask, tower.heads)[0])
        return past, None if self.varying else tower.project(x[self._ends])


def _block(
    tower: TextTower, number: int, x: Float[Tensor, "b n w"], past: Float[Tensor, "m w2"], mask: BlockMask
) -> Float[Tensor, "b n w"]:
    block = tower.blocks[number]
    q, kv = block.qkv(x).split((x.shape[-1], 2 * x.shape[-1]), dim=-1)
    return block.finish(x, attend(q, _join(past, kv), mask, tower.heads))


@dataclass(frozen=True, eq=False)
class _Stage:
    """The varying nodes of one tree, in the blocks that they go through.

    Attributes:
        blocks: which these are.
        mask: what the nodes attend to.
        learned: the nodes where learned vectors stand.
        ctx: the vector of each of these.
        cls: its class; 0 where all classes share it.
        origin: of every node, the one of the stage before that it takes its state from; None in the first.
    """

    blocks: range
    mask: BlockMask
    learned: Int[Tensor, " l"]
    ctx: Int[Tensor, " l"]
    cls: Int[Tensor, " l"]
    origin: Int[Tensor, " n"] | None

    def pick(self, vectors: Float[Tensor, "b classes m w"]) -> Float[Tensor, "b l w"]:
        """Return the learned vector of every node where one stands."""
        return vectors[:, self.cls if vectors.shape[1] > 1 else torch.zeros_like(self.cls), self.ctx]


def _stage(stage: Stage, before: Stage | None, device: torch.device) -> _Stage:
    tree = stage.tree
    learned = (tree.ctx >= 0).nonzero()[:, 0]
    return _Stage(
        blocks=stage.blocks,
        mask=block_mask(tree.parent.tolist(), range(tree.constant, tree.nodes)).to(device),
        learned=(learned - tree.constant).to(device),
        ctx=tree.ctx[learned].to(device),
        cls=tree.cls[learned].clamp(min=0).to(device),
        origin=_origin(tree, before.tree).to(device) if before else None,
    )


def _origin(tree: TokenTree, before: TokenTree) -> Int[Tensor, " n"]:
    """Return the origins of the varying nodes, among the varying nodes."""
    return origins(tree, before)[tree.constant :] - before.constant


def _join(past: Float[Tensor, "n w2"], kv: Float[Tensor, "b m w2"]) -> Float[Tensor, "b k w2"]:
    """Put the constant nodes' keys and values before the varying ones'."""
    return torch.cat([past.expand(kv.shape[0], -1, -1), kv], dim=1)
