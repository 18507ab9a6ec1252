"""Exact text features at the cost of the distinct tokens.

The nodes of a token tree go through the matrix products as one flat batch; only attention sees
prompts. Nothing is padded to CLIP's 77 tokens, constant nodes are computed once, the last block runs
for EOT alone, and frozen weights leave nothing behind for a weight gradient. The result, and every
gradient, is that of encoding each prompt of each image on its own.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import DTYPES
from cocoop.text.attention import attend, sight
from cocoop.text.fp16 import scaled
from cocoop.text.memory import Chunking, available_memory, choose_chunking, release_free_memory
from cocoop.text.prompt import Prompt, Slot
from cocoop.text.replay import Replayed
from cocoop.text.tower import TextTower
from cocoop.text.tree import build_tree


class TextEncoder:
    """Encodes one list of class names under the prompts of a method.

    Args:
        backbone: the frozen CLIP.
        prompts: one prompt, or several whose normalised features are averaged (an ensemble).
        class_names: candidates, in the order of the logits; equal names are allowed.
        memory_budget: bytes the encoder may use beyond the loaded model; None takes half of what
            the machine has free. Where all activations do not fit, the work is cut into chunks of
            images and classes that are recomputed in the backward pass.
        normalised: whether features have unit length; an ensemble's always have.

    Raises:
        CocoopError: the text tower is not one the token tree is exact for.
        UsageError: bad class names, or a budget too small for one class.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: Sequence[Prompt],
        class_names: Sequence[str],
        memory_budget: int | None = None,
        normalised: bool = True,
    ) -> None:
        self._normalise = normalised or len(prompts) > 1
        self.class_names = tuple(class_names)
        self.memory_budget = memory_budget
        self._tower = TextTower(backbone.model, DTYPES.get(backbone.precision))
        self._slots = [prompt.slots(backbone.tokenize, class_names) for prompt in prompts]
        # sorted, so that names that start alike share a chunk
        self._orders = [sorted(range(len(slots)), key=slots.__getitem__) for slots in self._slots]
        self._back = [torch.tensor(order, device=backbone.device).argsort() for order in self._orders]
        self._chunkings: dict[tuple[int, int, bool], Chunking] = {}
        self._chunks: dict[tuple[int, int, int], Replayed] = {}

    def __call__(self, contexts: Float[Tensor, "#b #c m w"]) -> Float[Tensor, "#b c d"]:
        """Return the text feature of every class, for every image's contexts.

        Args:
            contexts: the learned vectors; 1 in the first place means the same for all images, 1 in the
                second the same for all classes. Of J M vectors the first M enter the tower, and the
                next M each overwrite the states at their nodes before the next transformer block.
        """
        if self._tower.dtype == torch.float16:
            return scaled(self._encode, contexts)
        return self._encode(contexts)

    def in_one_piece(self) -> Callable[[Tensor], Tensor]:
        """Return the same function without a plan: one tree of all classes, a fixed graph for export."""
        trees = [_Chunk(self._tower, slots, self._normalise) for slots in self._slots]
        return lambda contexts: _average([tree(contexts) for tree in trees])

    def _encode(self, contexts: Float[Tensor, "#b #c m w"]) -> Float[Tensor, "#b c d"]:
        return _average([self._encode_prompt(index, contexts) for index in range(len(self._slots))])

    def _encode_prompt(self, index: int, contexts: Float[Tensor, "#b #c m w"]) -> Float[Tensor, "#b c d"]:
        grad = torch.is_grad_enabled() and contexts.requires_grad
        layout = self._chunking(index, contexts, grad)
        parts = []
        for images in contexts.split(layout.images):
            columns = []
            for start in range(0, len(self._orders[index]), layout.classes):
                chunk = self._chunk(index, start, layout.classes)
                if layout.recompute:
                    run = _compact(chunk.eager, layout.limit)
                    columns.append(checkpoint(run, images, use_reentrant=False, preserve_rng_state=False))
                else:
                    columns.append(chunk(images))
            parts.append(torch.cat(columns, dim=1))
        return torch.cat(parts)[:, self._back[index]]

    def _chunking(self, index: int, contexts: Tensor, grad: bool) -> Chunking:
        key = (index, len(contexts), grad)
        if key not in self._chunkings:
            budget = self.memory_budget or available_memory(contexts.device) // 2
            self._chunkings[key] = choose_chunking(
                self._slots[index], self._tower, len(contexts), budget, grad
            )
        return self._chunkings[key]

    def _chunk(self, index: int, start: int, size: int) -> Replayed:
        key = (index, start, size)
        if key not in self._chunks:
            slots, labels = self._slots[index], self._orders[index][start : start + size]
            chunk = _Chunk(self._tower, [slots[label] for label in labels], self._normalise)
            self._chunks[key] = Replayed(chunk, chunk.varying * self._tower.dtype.itemsize)
        return self._chunks[key]


def _average(features: Sequence[Float[Tensor, "b c d"]]) -> Float[Tensor, "b c d"]:
    """Average the features of an ensemble's prompts."""
    if len(features) == 1:
        return features[0]
    return F.normalize(torch.stack(list(features)).mean(0), dim=-1)


def _compact(chunk: Callable[[Tensor], Tensor], limit: int) -> Callable[[Tensor], Tensor]:
    """Give freed memory back before the chunk is computed where the process holds over `limit` bytes."""

    def run(images: Tensor) -> Tensor:
        release_free_memory(limit)
        return chunk(images)

    return run


class _Chunk:
    """The token tree of some classes, with the states of its constant nodes."""

    def __init__(self, tower: TextTower, slots: Sequence[Sequence[Slot]], normalise: bool) -> None:
        self._tower = tower
        self._normalise = normalise
        tree = build_tree(slots)
        self.varying = tree.varying
        device = tower.token_embedding.device
        self._prompt_of = tree.prompt_of.to(device)
        self._leaves = (tree.leaves - tree.constant).to(device)  # among the varying nodes
        parent = tree.parent.tolist()
        self._sight = sight(parent, range(tree.constant, tree.nodes)).to(device)
        self._last_sight = sight(parent, tree.leaves.tolist()).to(device)
        varying = slice(tree.constant, None)
        learned = tree.ctx[varying] >= 0
        self._learned = learned.nonzero()[:, 0].to(device)
        self._ctx = tree.ctx[varying][learned].to(device)
        self._n_ctx = int(tree.ctx.max()) + 1
        self._cls = tree.cls[varying][learned].clamp(min=0).to(device)
        with torch.no_grad():
            embedded = tower.token_embedding[tree.token.clamp(min=0).to(device)]
            embedded = embedded + tower.positional_embedding[tree.depth.to(device)]
            self._embedded = embedded[varying]
            self._positions = tower.positional_embedding[tree.depth[varying][learned].to(device)]
            self._past, final = self._run_constant(embedded[: tree.constant], parent)
            self._fixed = tower.project(final[tree.leaves.to(device)]) if not tree.varying else None

    def __call__(self, contexts: Float[Tensor, "b classes m w"]) -> Float[Tensor, "b c d"]:
        if self._fixed is not None:
            features = self._fixed[None]
        else:
            features = self._tower.project(self._run(*self._insert(contexts)))
        features = F.normalize(features, dim=-1) if self._normalise else features
        return features[:, self._prompt_of]

    def _insert(
        self, contexts: Float[Tensor, "b classes m w"]
    ) -> tuple[Float[Tensor, "b n w"], list[Float[Tensor, "b l w"]]]:
        """Put the learned vectors at their nodes; return those that overwrite them in deeper blocks too."""
        cls = self._cls if contexts.shape[1] > 1 else torch.zeros_like(self._cls)
        first, *deeper = (rows[:, cls, self._ctx] for rows in contexts.split(self._n_ctx, dim=2))
        nodes = self._embedded.to(contexts.dtype).expand(contexts.shape[0], -1, -1)
        return nodes.index_copy(1, self._learned, first + self._positions), deeper

    def _run(
        self, x: Float[Tensor, "b n w"], deeper: Sequence[Float[Tensor, "b l w"]]
    ) -> Float[Tensor, "b u w"]:
        """Run the varying nodes through all blocks; return the states at EOT."""
        *blocks, last = self._tower.blocks
        rows: list[Tensor | None] = [None, *deeper, *[None] * (len(blocks) - len(deeper))]
        for block, past, row in zip(blocks, self._past, rows, strict=False):
            x = x if row is None else x.index_copy(1, self._learned, row)
            q, kv = block.qkv(x).split((x.shape[-1], 2 * x.shape[-1]), dim=-1)
            x = block.finish(x, attend(q, _join(past, kv), self._sight, self._tower.heads))
        if (row := rows[len(blocks)]) is not None:
            x = x.index_copy(1, self._learned, row)
        ends = x[:, self._leaves]
        kv = _join(self._past[-1], last.kv(x))
        return last.finish(ends, attend(last.q(ends), kv, self._last_sight, self._tower.heads))

    def _run_constant(
        self, x: Float[Tensor, "n w"], parent: Sequence[int]
    ) -> tuple[list[Float[Tensor, "n w2"]], Float[Tensor, "n w"]]:
        """Run the constant nodes alone; return their keys and values in each block and their last state."""
        seen = sight(parent, range(len(x))).to(x.device)
        past = []
        for block in self._tower.blocks:
            q, kv = block.qkv(x).split((x.shape[-1], 2 * x.shape[-1]), dim=-1)
            past.append(kv)
            x = block.finish(x, attend(q[None], kv[None], seen, self._tower.heads)[0])
        return past, x


def _join(past: Float[Tensor, "n w2"], kv: Float[Tensor, "b m w2"]) -> Float[Tensor, "b k w2"]:
    """Put the constant nodes' keys and values before the varying ones'."""
    return torch.cat([past.expand(kv.shape[0], -1, -1), kv], dim=1)
