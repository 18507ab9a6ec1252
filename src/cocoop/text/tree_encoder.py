"""Exact text features of one prompt at the cost of the distinct tokens.

The nodes of a token tree go through the matrix products as one flat batch; only attention has to know
which of them form a prompt. Nothing is padded to CLIP's 77 tokens, constant nodes are computed once, the
last block runs for EOT alone, and frozen weights leave nothing behind for a weight gradient. The result,
and every gradient, is that of encoding each prompt of each image on its own.
"""

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cocoop.backbones.block import UNCHANGED, Changes
from cocoop.text.chunk import Chunk
from cocoop.text.memory import Chunking, available_memory, choose_chunking
from cocoop.text.pieces import in_pieces
from cocoop.text.prompt import Prompt, Slot, own_slots
from cocoop.text.replay import Replayed
from cocoop.text.tower import TextTower
from cocoop.text.tree import in_order


class TreeEncoder:
    """Encodes one prompt with a list of class names as a token tree.

    Args:
        tower: the frozen text tower.
        prompt: of a method.
        slots: of every class.
        memory_budget: bytes; None for half of what the machine has free.
        normalise: whether features have unit length.
    """

    def __init__(
        self,
        tower: TextTower,
        prompt: Prompt,
        slots: Sequence[tuple[Slot, ...]],
        memory_budget: int | None,
        normalise: bool,
    ) -> None:
        self._tower, self._prompt = tower, prompt
        self._memory_budget, self._normalise = memory_budget, normalise
        self._chunkings: dict[tuple[int, int, bool, bool], Chunking] = {}
        self._take(slots)

    def _take(self, slots: Sequence[tuple[Slot, ...]]) -> None:
        """Take the slots of the classes, sorted so that names that start alike share a chunk."""
        self._slots = slots
        self._order = in_order(slots, self._prompt.shared_blocks)
        self._back = torch.tensor(self._order, device=self._tower.token_embedding.device).argsort()
        self._chunks: dict[tuple[int, int], Replayed] = {}

    def __call__(
        self, contexts: Float[Tensor, "#b #c m w"], changes: Changes = UNCHANGED
    ) -> Float[Tensor, "#b c d"]:
        """Return the text feature of every class, for every image's contexts, in the tower with changes."""
        tower = None if changes is UNCHANGED else self._tower.changed(changes)
        grad = torch.is_grad_enabled() and (contexts.requires_grad or tower is not None)
        layout = self.chunking(len(contexts), grad, tower is not None)

        def piece(start: int, size: int) -> Callable[[Tensor], Tensor]:
            chunk = self._chunk(start, size)
            return partial(chunk.eager, tower=tower) if tower else chunk

        return in_pieces(contexts, layout, len(self._order), piece, draws=tower is not None)[:, self._back]

    def some(self, contexts: Float[Tensor, "b 1 m w"], classes: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
        """Return the text features of a few classes of each image: one tree of all, see `own_slots`."""
        own = own_slots(self._slots, classes)
        each = Chunk(self._tower, self._prompt, own, self._normalise)(contexts.transpose(0, 1))
        return each.view(*classes.shape, -1)

    def among(self, places: Sequence[int]) -> "TreeEncoder":
        """Return the encoder of the classes at some places; it shares the plans of chunks."""
        fewer = copy(self)
        fewer._take([self._slots[place] for place in places])
        return fewer

    def in_one_piece(self) -> Callable[[Tensor], Tensor]:
        """Return the same function without chunks: one tree of all classes, a fixed graph for export."""
        return Chunk(self._tower, self._prompt, self._slots, self._normalise)

    def chunking(self, images: int, grad: bool, changed: bool = False) -> Chunking:
        """Return how the work of so many images is cut, in a tower with changes or without."""
        key = (len(self._slots), images, grad, changed)
        if key not in self._chunkings:
            device = self._tower.token_embedding.device
            budget = self._memory_budget or available_memory(device) // 2
            self._chunkings[key] = choose_chunking(
                self._slots, self._tower, images, budget, grad, self._prompt.shared_blocks, changed
            )
        return self._chunkings[key]

    def _chunk(self, start: int, size: int) -> Replayed:
        key = (start, size)
        if key not in self._chunks:
            some = [self._slots[label] for label in self._order[start : start + size]]
            chunk = Chunk(self._tower, self._prompt, some, self._normalise)
            self._chunks[key] = Replayed(chunk, chunk.varying * self._tower.dtype.itemsize)
        return self._chunks[key]
