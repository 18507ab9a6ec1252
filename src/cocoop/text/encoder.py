"""Exact text features at the cost of the distinct tokens.

The nodes of a token tree go through the matrix products as one flat batch; only attention has to know
which of them form a prompt. Nothing is padded to CLIP's 77 tokens, constant nodes are computed once, the
last block runs for EOT alone, and frozen weights leave nothing behind for a weight gradient. The result,
and every gradient, is that of encoding each prompt of each image on its own.
"""

from collections.abc import Callable, Sequence
from copy import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import DTYPES
from cocoop.errors import UsageError
from cocoop.text.chunk import Chunk
from cocoop.text.fp16 import scaled
from cocoop.text.memory import Chunking, available_memory, choose_chunking, release_free_memory
from cocoop.text.prompt import Prompt, Slot
from cocoop.text.replay import Replayed
from cocoop.text.tower import TextTower
from cocoop.text.tree import in_order

PAIRS_AT_ONCE = 256  # of an image and one of its classes


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
        UsageError: bad class names, a budget too small for one class, or vectors for a block the tower lacks.
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
        blocks = len(self._tower.blocks)
        for prompt in prompts:
            if (deepest := max(*prompt.deeper, prompt.shared_blocks, 0)) >= blocks:
                raise UsageError(
                    f"there is no block {deepest} in the text tower of {backbone.name}, of {blocks}"
                )
        self._prompts = tuple(prompts)
        self._device = backbone.device
        self._chunkings: dict[tuple[int, int, int, bool], Chunking] = {}
        self._take([prompt.slots(backbone.tokenize, class_names) for prompt in prompts])

    def __call__(self, contexts: Float[Tensor, "#b #c m w"]) -> Float[Tensor, "#b c d"]:
        """Return the text feature of every class, for every image's contexts.

        Args:
            contexts: the learned vectors; 1 in the first place means the same for all images, 1 in the
                second the same for all classes. Of J M vectors the first M enter the tower, and the
                next M each overwrite the states at their nodes before one of the prompt's `deeper` blocks.
        """
        if self._tower.dtype == torch.float16:
            return scaled(self._encode, contexts)
        return self._encode(contexts)

    def some(self, contexts: Float[Tensor, "b 1 m w"], classes: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
        """Return the text features of a few classes of each image, others for every image.

        The images share one tree, in which each has learned vectors of its own.

        Args:
            contexts: as for a call; the same for all classes.
            classes: those of each image, by their place among the names.
        """
        at_once = max(1, PAIRS_AT_ONCE // classes.shape[1])
        parts = zip(contexts.split(at_once), classes.split(at_once), strict=True)
        return torch.cat([self._some(images, few) for images, few in parts])

    def _some(
        self, contexts: Float[Tensor, "b 1 m w"], classes: Int[Tensor, "b k"]
    ) -> Float[Tensor, "b k d"]:
        features = []
        for prompt, slots in zip(self._prompts, self._slots, strict=True):
            own = [
                tuple(slot if slot.ctx < 0 else slot._replace(cls=image) for slot in slots[label])
                for image, labels in enumerate(classes.tolist())
                for label in labels
            ]
            each = Chunk(self._tower, prompt, own, self._normalise)(contexts.transpose(0, 1))
            features.append(each.view(*classes.shape, -1))
        return _average(features)

    def among(self, places: Sequence[int]) -> "TextEncoder":
        """Return the encoder of the classes at some places, in that order, whose learned vectors all share.

        It costs the token tree of these alone. Those of one size share the plan of the first one's chunks.
        """
        fewer = copy(self)
        fewer.class_names = tuple(self.class_names[place] for place in places)
        fewer._take([[slots[place] for place in places] for slots in self._slots])
        return fewer

    def images_at_once(self, images: int) -> int:
        """Return of how many images' contexts the activations fit, so that nothing is computed twice.

        1 where not even those of one image fit: its classes are cut into chunks then, which are recomputed.
        """
        return min(self._chunking(index, images, grad=True).images for index in range(len(self._slots)))

    def in_one_piece(self) -> Callable[[Tensor], Tensor]:
        """Return the same function without chunks: one tree of all classes, a fixed graph for export."""
        each = zip(self._prompts, self._slots, strict=True)
        whole = [Chunk(self._tower, prompt, slots, self._normalise) for prompt, slots in each]
        return lambda contexts: _average([chunk(contexts) for chunk in whole])

    def _take(self, slots: list[list[tuple[Slot, ...]]]) -> None:
        """Take the slots of every prompt's classes, sorted so that names that start alike share a chunk."""
        self._slots = slots
        each = zip(slots, self._prompts, strict=True)
        self._orders = [in_order(classes, prompt.shared_blocks) for classes, prompt in each]
        self._back = [torch.tensor(order, device=self._device).argsort() for order in self._orders]
        self._chunks: dict[tuple[int, int, int], Replayed] = {}

    def _encode(self, contexts: Float[Tensor, "#b #c m w"]) -> Float[Tensor, "#b c d"]:
        return _average([self._encode_prompt(index, contexts) for index in range(len(self._slots))])

    def _encode_prompt(self, index: int, contexts: Float[Tensor, "#b #c m w"]) -> Float[Tensor, "#b c d"]:
        grad = torch.is_grad_enabled() and contexts.requires_grad
        layout = self._chunking(index, len(contexts), grad)
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

    def _chunking(self, index: int, images: int, grad: bool) -> Chunking:
        key = (len(self.class_names), index, images, grad)
        if key not in self._chunkings:
            budget = self.memory_budget or available_memory(self._device) // 2
            self._chunkings[key] = choose_chunking(
                self._slots[index],
                self._tower,
                images,
                budget,
                grad,
                self._prompts[index].shared_blocks,
            )
        return self._chunkings[key]

    def _chunk(self, index: int, start: int, size: int) -> Replayed:
        key = (index, start, size)
        if key not in self._chunks:
            slots, labels = self._slots[index], self._orders[index][start : start + size]
            some = [slots[label] for label in labels]
            chunk = Chunk(self._tower, self._prompts[index], some, self._normalise)
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
