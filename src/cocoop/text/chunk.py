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


class Chunk:
    """The token tree of some classes, with the states of its constant nodes.

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
            constant = (embedded + positions)[: first.constant]
            self._past, final = self._run_constant(constant, first.parent.tolist())
            self._fixed = tower.project(final[tree.leaves.to(device)]) if not tree.varying else None

    def __call__(self, contexts: Float[Tensor, "b classes m w"]) -> Float[Tensor, "b c d"]:
        """Return the text features; the argument is that of `TextEncoder`."""
        features = self._fixed[None] if self._fixed is not None else self._tower.project(self._run(contexts))
        features = F.normalize(features, dim=-1) if self._normalise else features
        return features[:, self._prompt_of]

    def _run(self, contexts: Float[Tensor, "b classes m w"]) -> Float[Tensor, "b u w"]:
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
                if number < len(self._past) - 1:
                    x = self._block(number, x, stage.mask)
        return self._last(x)

    def _block(self, number: int, x: Float[Tensor, "b n w"], mask: BlockMask) -> Float[Tensor, "b n w"]:
        block = self._tower.blocks[number]
        q, kv = block.qkv(x).split((x.shape[-1], 2 * x.shape[-1]), dim=-1)
        return block.finish(x, attend(q, _join(self._past[number], kv), mask, self._tower.heads))

    def _last(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b u w"]:
        """Run the last block for EOT alone."""
        last, ends = self._tower.blocks[-1], x[:, self._leaves]
        kv = _join(self._past[-1], last.kv(x))
        return last.finish(ends, attend(last.q(ends), kv, self._last_mask, self._tower.heads))

    def _run_constant(
        self, x: Float[Tensor, "n w"], parent: Sequence[int]
    ) -> tuple[list[Float[Tensor, "n w2"]], Float[Tensor, "n w"]]:
        """Run the constant nodes alone; return their keys and values in each block and their last state."""
        if not len(x):  # nothing stands before the first learned vector, not even SOT
            return [x.new_empty(0, 2 * x.shape[-1]).to(self._tower.dtype)] * len(self._tower.blocks), x
        mask = block_mask(parent, range(len(x))).to(x.device)
        past = []
        for block in self._tower.blocks:
            q, kv = block.qkv(x).split((x.shape[-1], 2 * x.shape[-1]), dim=-1)
            past.append(kv)
            x = block.finish(x, attend(q[None], kv[None], mask, self._tower.heads)[0])
        return past, x


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
