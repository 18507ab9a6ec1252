"""Exact text features of a list of class names under the prompts of a method.

Which computation is exact is a property of the text tower: a token tree for CLIP's own, whose every distinct
token is computed once, and the tower's own forward over padded prompts for all others.
"""

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cocoop.backbones.block import UNCHANGED, Changes
from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import DTYPES, LEARNED
from cocoop.errors import UsageError
from cocoop.text.fp16 import scaled
from cocoop.text.padded import PaddedEncoder
from cocoop.text.prompt import Prompt, Slot
from cocoop.text.tower import TextTower
from cocoop.text.tree_encoder import TreeEncoder

PAIRS_AT_ONCE = 256  # of an image and one of its classes


class TextEncoder:
    """Encodes one list of class names under the prompts of a method.

    Args:
        backbone: the frozen image-text model.
        prompts: one prompt, or several whose normalised features are averaged (an ensemble).
        class_names: candidates, in the order of the logits; equal names are allowed.
        memory_budget: bytes the encoder may use beyond the loaded model; None takes half of what
            the machine has free. Where all activations do not fit, the work is cut into chunks of
            images and classes that are recomputed in the backward pass.
        normalised: whether features have unit length; an ensemble's always have.
        changed: whether a method changes the tower's blocks, which fp16 has too small a range for.

    Raises:
        UsageError: bad class names, a budget too small for one class, or vectors for a block the tower lacks.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: Sequence[Prompt],
        class_names: Sequence[str],
        memory_budget: int | None = None,
        normalised: bool = True,
        changed: bool = False,
    ) -> None:
        normalise = normalised or len(prompts) > 1
        self.class_names = tuple(class_names)
        self.memory_budget = memory_budget
        self._dtype = (LEARNED if changed else DTYPES).get(backbone.precision)
        self._half = (self._dtype or backbone.dtype) == torch.float16
        self._tower: TextTower | None = None
        blocks = len(backbone.text.blocks)
        for prompt in prompts:
            if (deepest := max(*prompt.deeper, prompt.shared_blocks, prompt.inserted)) >= blocks:
                raise UsageError(
                    f"there is no block {deepest} in the text tower of {backbone.name}, of {blocks}"
                )
        self._prompts = tuple(prompts)
        self._encoders = [
            self._encoder(backbone, prompt, prompt.slots(backbone.tokenize, class_names), normalise)
            for prompt in prompts
        ]

    def _encoder(
        self, backbone: Backbone, prompt: Prompt, slots: list[tuple[Slot, ...]], normalise: bool
    ) -> TreeEncoder | PaddedEncoder:
        """Return the encoder of one prompt that is exact for the text tower."""
        if not backbone.text.transformer:
            if prompt.added:
                raise UsageError(
                    f"vectors in place of no token are no part of the text tower of {backbone.name}: "
                    f"{backbone.text.reason}"
                )
            return PaddedEncoder(backbone, prompt, slots, self.memory_budget, normalise)
        if self._tower is None:
            self._tower = TextTower(backbone.text, self._dtype)
        return TreeEncoder(self._tower, prompt, slots, self.memory_budget, normalise)

    def __call__(
        self, contexts: Float[Tensor, "#b #c m w"], changes: Changes = UNCHANGED
    ) -> Float[Tensor, "#b c d"]:
        """Return the text feature of every class, for every image's contexts.

        Args:
            contexts: the learned vectors; 1 in the first place means the same for all images, 1 in the
                second the same for all classes. Of J M vectors the first M enter the tower, and the
                next M each overwrite the states at their nodes before one of the prompt's `deeper` blocks.
            changes: what a method changes in the tower; gradients go into it.

        Raises:
            UsageError: the tower has no token tree, so that its blocks cannot be changed.
        """
        encode = partial(self._encode, changes=changes)
        return scaled(encode, contexts) if self._half else encode(contexts)

    def some(self, contexts: Float[Tensor, "b 1 m w"], classes: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
        """Return the text features of a few classes of each image, others for every image.

        The images share one computation, in which each has learned vectors of its own.

        Args:
            contexts: as for a call; the same for all classes.
            classes: those of each image, by their place among the names.
        """
        at_once = max(1, PAIRS_AT_ONCE // classes.shape[1])
        parts = zip(contexts.split(at_once), classes.split(at_once), strict=True)
        return torch.cat(
            [_average([each.some(images, few) for each in self._encoders]) for images, few in parts]
        )

    def among(self, places: Sequence[int]) -> "TextEncoder":
        """Return the encoder of the classes at some places, in that order, whose learned vectors all share.

        It costs the prompts of these alone. Those of one size share the plan of the first one's chunks.
        """
        fewer = copy(self)
        fewer.class_names = tuple(self.class_names[place] for place in places)
        fewer._encoders = [each.among(places) for each in self._encoders]
        return fewer

    def images_at_once(self, images: int) -> int:
        """Return of how many images' contexts the activations fit, so that nothing is computed twice.

        1 where not even those of one image fit: its classes are cut into chunks then, which are recomputed.
        """
        return min(each.chunking(images, grad=True).images for each in self._encoders)

    def in_one_piece(self) -> Callable[[Tensor], Tensor]:
        """Return the same function without chunks: a fixed graph for export."""
        whole = [encoder.in_one_piece() for encoder in self._encoders]
        return lambda contexts: _average([each(contexts) for each in whole])

    def _encode(self, contexts: Float[Tensor, "#b #c m w"], changes: Changes) -> Float[Tensor, "#b c d"]:
        return _average([encoder(contexts, changes) for encoder in self._encoders])


def _average(features: Sequence[Float[Tensor, "b c d"]]) -> Float[Tensor, "b c d"]:
    """Average the features of an ensemble's prompts."""
    if len(features) == 1:
        return features[0]
    return F.normalize(torch.stack(list(features)).mean(0), dim=-1)
