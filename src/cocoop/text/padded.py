"""Exact text features of one prompt by the tower's own forward, for towers without a token tree.

Learned vectors take the places of rows of the token table, and of states before deeper blocks; positions,
masks, pooling and projection are the tower's own. Prompts are padded to the longest of their batch, or to the
whole context where the feature depends on the padding (SigLIP), and go through the tower in batches of images
and classes within the memory budget.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cocoop.backbones.block import UNCHANGED, Changes
from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import DTYPES
from cocoop.backbones.text_model import Placed, TextModel, placed
from cocoop.errors import UsageError
from cocoop.text.memory import Chunking, available_memory, cut, held_per_used
from cocoop.text.pieces import in_pieces
from cocoop.text.prompt import PLACEHOLDER, Prompt, Slot, own_slots

ALIKE = 1.25  # a batch's longest prompt over its shortest, at most
WORKING_BLOCKS = 2  # the activations of how many blocks are at work at a time, by measurement


class PaddedEncoder:
    """Encodes one prompt with a list of class names by the tower's own forward.

    Args:
        backbone: the frozen image-text model.
        prompt: of a method.
        slots: of every class.
        memory_budget: bytes; None for half of what the machine has free.
        normalise: whether features have unit length.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompt: Prompt,
        slots: Sequence[tuple[Slot, ...]],
        memory_budget: int | None,
        normalise: bool,
    ) -> None:
        self._backbone, self._prompt = backbone, prompt
        self._memory_budget, self._normalise = memory_budget, normalise
        self._chunkings: dict[tuple[int, int, bool], Chunking] = {}
        self._take(slots)

    def _take(self, slots: Sequence[tuple[Slot, ...]]) -> None:
        """Take the slots of the classes; equal ones are one row, rows of about one length stand together."""
        self._slots = slots
        self._rows = sorted(dict.fromkeys(slots), key=len)
        place = {each: index for index, each in enumerate(self._rows)}
        self._back = torch.tensor([place[each] for each in slots], device=self._backbone.device)
        self._chunks: dict[tuple[int, int], _Chunk] = {}

    def __call__(
        self, contexts: Float[Tensor, "#b #c m w"], changes: Changes = UNCHANGED
    ) -> Float[Tensor, "#b c d"]:
        """Return the text feature of every class, for every image's contexts; UsageError with changes."""
        if changes is not UNCHANGED:
            raise UsageError(
                f"the blocks of the text tower of {self._backbone.name} cannot be changed: "
                f"{self._backbone.text.reason}"
            )
        layout = self.chunking(len(contexts), torch.is_grad_enabled() and contexts.requires_grad)
        return in_pieces(contexts, layout, len(self._rows), self._chunk)[:, self._back]

    def some(self, contexts: Float[Tensor, "b 1 m w"], classes: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
        """Return the text features of a few classes of each image: one batch of all, see `own_slots`."""
        own = own_slots(self._slots, classes)
        chunk = _Chunk(self._backbone, self._prompt, own, self._normalise)
        return chunk(contexts.transpose(0, 1)).view(*classes.shape, -1)

    def among(self, places: Sequence[int]) -> "PaddedEncoder":
        """Return the encoder of the classes at some places; it shares the plans of chunks."""
        fewer = copy(self)
        fewer._take([self._slots[place] for place in places])
        return fewer

    def in_one_piece(self) -> Callable[[Tensor], Tensor]:
        """Return the same function without chunks, for export."""
        whole = self._chunk(0, len(self._rows))
        return lambda contexts: whole(contexts)[:, self._back]

    def _chunk(self, start: int, size: int) -> "_Chunk":
        key = (start, size)
        if key not in self._chunks:
            rows = self._rows[start : start + size]
            self._chunks[key] = _Chunk(self._backbone, self._prompt, rows, self._normalise)
        return self._chunks[key]

    def chunking(self, images: int, grad: bool) -> Chunking:
        """Return how the work of so many images is cut."""
        key = (len(self._rows), images, grad)
        if key not in self._chunkings:
            device = self._backbone.device
            budget = self._memory_budget or available_memory(device) // 2
            one = self.bytes_of_longest(grad)
            longest = len(self._rows[-1])
            lengths = [longest if self._backbone.text.fixed_length else len(row) for row in self._rows]

            @cache
            def need(count: int) -> int:  # of the costliest chunk, for one image
                ends = range(count, len(lengths) + count, count)
                return max(count * one * lengths[min(end, len(lengths)) - 1] // longest for end in ends)

            self._chunkings[key] = cut(need, len(self._rows), images, budget, grad, device)
        return self._chunkings[key]

    def bytes_of_longest(self, grad: bool) -> int:
        """Measure the bytes of activations of the longest prompt of one image."""
        backbone, prompt = self._backbone, replace(self._prompt, deeper=(), shared_blocks=0)
        classes = max((slot.cls for slot in self._rows[-1]), default=-1) + 1
        shape = (1, max(1, classes), prompt.n_ctx, backbone.width)
        vectors = torch.zeros(shape, device=backbone.device, dtype=backbone.dtype)
        chunk = _Chunk(backbone, prompt, self._rows[-1:], self._normalise)
        return bytes_of_one(backbone.text, lambda: chunk(vectors.requires_grad_()), grad)


class _Chunk:
    """Some prompts as padded batches, each of prompts of about one length."""

    def __init__(
        self, backbone: Backbone, prompt: Prompt, slots: Sequence[tuple[Slot, ...]], normalise: bool
    ) -> None:
        self._normalise = normalise
        self._dtype = DTYPES.get(backbone.precision)
        groups = [list(slots)] if backbone.text.fixed_length else alike(slots)
        self._batches = [_Batch(backbone, prompt, group) for group in groups]

    def __call__(self, contexts: Float[Tensor, "b classes m w"]) -> Float[Tensor, "b u d"]:
        """Return the features of all prompts for the contexts of every image."""
        with torch.autocast(contexts.device.type, self._dtype, enabled=self._dtype is not None):
            parts = [batch(contexts) for batch in self._batches]
        features = torch.cat(parts, dim=1).to(contexts.dtype)
        return F.normalize(features, dim=-1) if self._normalise else features


def alike(slots: Sequence[tuple[Slot, ...]]) -> list[list[tuple[Slot, ...]]]:
    """Return prompts, which stand in order of length, in groups of about one length."""
    groups: list[list[tuple[Slot, ...]]] = []
    for each in slots:
        if not groups or len(each) > ALIKE * len(groups[-1][0]):
            groups.append([])
        groups[-1].append(each)
    return groups


class _Batch:
    """Some prompts as a padded batch of tokens, and the places of their learned vectors."""

    def __init__(self, backbone: Backbone, prompt: Prompt, slots: Sequence[tuple[Slot, ...]]) -> None:
        self._text, self._deeper, self._shared_blocks = backbone.text, prompt.deeper, prompt.shared_blocks
        vocabulary = backbone.tokenize.vocabulary
        word = vocabulary.encode(PLACEHOLDER)[0]  # a word, to masks and pooling: its vector is overwritten
        longest = backbone.context_length if self._text.fixed_length else max(map(len, slots))
        rows, learned = [], []
        for row, each in enumerate(slots):
            padding = [vocabulary.padding] * (longest - len(each))
            tokens = [slot.token if slot.ctx < 0 else word for slot in each]
            shift = len(padding) if vocabulary.left else 0
            rows.append([*padding, *tokens] if vocabulary.left else [*tokens, *padding])
            learned += [
                (row, column + shift, max(slot.cls, 0), slot.ctx)
                for column, slot in enumerate(each)
                if slot.ctx >= 0
            ]
        self._tokens = torch.tensor(rows, device=backbone.device)
        places = torch.tensor(learned, dtype=torch.long, device=backbone.device).view(-1, 4)
        self._row, self._column, self._cls, self._ctx = places.unbind(1)
        self._n_ctx = max((place[3] for place in learned), default=-1) + 1

    def __call__(self, contexts: Float[Tensor, "b classes m w"]) -> Float[Tensor, "b u d"]:
        """Return the raw features of all prompts for the contexts of every image."""
        images = len(contexts)
        if not self._n_ctx:
            return self._text.encode(self._tokens).expand(images, -1, -1)
        with placed(self._place(contexts)):
            return self._text.encode(self._tokens.repeat(images, 1)).unflatten(0, (images, -1))

    def _place(self, contexts: Float[Tensor, "b classes m w"]) -> Placed:
        first, *others = contexts.split(self._n_ctx, dim=2)
        deeper = dict(zip(self._deeper or range(1, len(others) + 1), others, strict=True))
        offsets = torch.arange(len(contexts), device=contexts.device)[:, None] * len(self._tokens)
        return Placed(
            rows=(self._row + offsets).flatten(),
            columns=self._column.repeat(len(contexts)),
            vectors={block: self._pick(block, each) for block, each in {0: first, **deeper}.items()},
        )

    def _pick(self, block: int, vectors: Float[Tensor, "b classes m w"]) -> Float[Tensor, "n w"]:
        shared = vectors.shape[1] == 1 or block < self._shared_blocks
        return vectors[:, torch.zeros_like(self._cls) if shared else self._cls, self._ctx].flatten(0, 1)


def bytes_of_one(text: TextModel, run: Callable[[], Tensor], grad: bool) -> int:
    """Measure the bytes that a computation with a text tower uses beside its weights.

    What autograd keeps for the backward pass is counted; what is at work within a block is a part of that.

    Args:
        text: the tower.
        run: the computation, from a tensor that requires a gradient.
        grad: whether what is kept counts too.
    """
    weights = {
        tensor.untyped_storage()._cdata for tensor in (*text.module.parameters(), *text.module.buffers())
    }
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = run()  # as long as it lives, so does all that it keeps
    used = sum(kept.values())
    working = WORKING_BLOCKS * used // max(1, len(text.blocks)) + out.nbytes
    return int((used * grad + working) * held_per_used(out.device))
