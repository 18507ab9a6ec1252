"""Conditional prompts at the cost of zero-shot: linearised logits, and exact ones where it matters.

*Linear*: text features are expanded once for a list of names (`cocoop.text.linear`), and an image costs a few
matrix products. *Screened*: linear logits of all classes, then exact ones of the likeliest, of as many that
the first is the exact answer unless linear logits of the others are further off than stated.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocoop.backbones.cache import FeatureCache
from cocoop.errors import UsageError
from cocoop.methods import Method
from cocoop.methods._hooks import Output, WithHidden
from cocoop.training.classifier import Classifier, both_in_pieces, evaluating
from cocoop.training.linearised import Linearised, hidden_of, linearise
from cocoop.training.modes import TestingMode

FIRST = 5  # classes of an image computed exactly to begin with
MARGIN = 2.0  # a linear logit may be off by this many times the largest error among the exact ones
COMPARED = 10  # images whose linear logits are compared with exact ones, for the record
SCREENED_AT_ONCE = 50  # images, whose exact features share a tree


@runtime_checkable
class Predictor(Protocol):
    """Whatever names images by their features."""

    class_names: tuple[str, ...]

    def predict(self, fimg: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return the logits of many images on the CPU."""
        ...

    def similarities(self, fimg: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
        """Return the logits of many images, and the cosines of images and texts, on the CPU."""
        ...


@dataclass
class Screening:
    """What a screened prediction has measured.

    Attributes:
        images: how many it has answered.
        exact: of all their classes, those whose logits are exact.
        error: the largest error of a linear logit among these.
    """

    images: int = 0
    exact: int = 0
    error: float = 0.0


class Screened:
    """A classifier whose logits are exact for each image's likeliest classes, and linear for the others.

    An image's classes are computed exactly in the order of their linear logits, `first` of them and then
    twice as many again, until no linear logit that is left comes within `MARGIN` times the largest error
    found at this image to the best exact one.

    Args:
        linearised: gives the linear logits.
        first: classes computed exactly to begin with.

    Attributes:
        measured: on all images so far.
    """

    def __init__(self, linearised: Linearised, first: int = FIRST) -> None:
        self.class_names = linearised.class_names
        self.measured = Screening()
        self._linearised = linearised
        self._first = first

    @torch.no_grad()
    def predict(self, fimg: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return the logits of many images on the CPU."""
        return self.similarities(fimg)[0]

    @torch.no_grad()
    def similarities(self, fimg: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
        """Return the logits of many images, and the cosines, exact for the same classes as the logits."""
        classifier = self._linearised.classifier
        with evaluating(classifier.method):
            return both_in_pieces(self._screen_all, fimg.to(classifier.device), len(self.class_names))

    def _screen_all(self, fimg: Float[Tensor, "n d"]) -> Float[Tensor, "n c2"]:
        both = self._linearised.classifier.both
        return torch.cat([both(self._screen(images)) for images in fimg.split(SCREENED_AT_ONCE)])

    def _screen(self, fimg: Float[Tensor, "b d"]) -> Output:
        similarity = self._linearised.similarity(fimg)
        logits = self._linearised.logits(fimg, similarity)
        exact = torch.zeros_like(logits, dtype=torch.bool)
        error = logits.new_zeros(len(logits))
        unsettled, count = torch.arange(len(logits), device=logits.device), self._first
        while len(unsettled):
            rows = unsettled[:, None]
            left = logits[unsettled].masked_fill(exact[unsettled], -torch.inf)
            chosen = left.topk(min(count, int((~exact[unsettled[0]]).sum()))).indices
            before = logits[rows, chosen]
            similarity[rows, chosen] = self._exact(fimg[unsettled], chosen)
            exact[rows, chosen] = True
            logits[unsettled] = self._linearised.logits(fimg[unsettled], similarity[unsettled])
            found = (logits[rows, chosen] - before).abs().amax(1)
            error[unsettled] = torch.maximum(error[unsettled], found)
            best = logits[unsettled].masked_fill(~exact[unsettled], -torch.inf).amax(1)
            rival = logits[unsettled].masked_fill(exact[unsettled], -torch.inf).amax(1)
            unsettled = unsettled[rival + MARGIN * error[unsettled] >= best]
            count *= 2
        self.measured.images += len(fimg)
        self.measured.exact += int(exact.sum())
        self.measured.error = max(self.measured.error, float(error.max()))
        return self._linearised.output(fimg, similarity)

    def _exact(self, fimg: Float[Tensor, "b d"], classes: Tensor) -> Float[Tensor, "b k"]:
        """Return CLIP's logits of some classes of each image."""
        classifier = self._linearised.classifier
        ftxt = classifier.encode_text.some(classifier.contexts(fimg), classes)
        cosine = torch.einsum("bd,bkd->bk", F.normalize(fimg, dim=-1), F.normalize(ftxt, dim=-1))
        return classifier.logit_scale * cosine


def predictor(
    classifier: Classifier,
    mode: TestingMode,
    fimg: Float[Tensor, "n d"],
    hidden: Mapping[str, Sequence[float]] = MappingProxyType({}),
    cache: FeatureCache | None = None,
) -> Predictor:
    """Return what predicts in a mode; a method whose contexts do not depend on the image is always exact.

    Args:
        classifier: over the names.
        mode: "exact", "screened" or "linear".
        fimg: images at hand, for whose hidden vectors to linearise where no others are described.
        hidden: "mean" and "std" of the hidden vectors to linearise for, e.g. the training images'.
        cache: where expansions are kept; None for nowhere.

    Raises:
        UsageError: contexts depend on the image in another way than by a small hidden vector, or the
            expansion does not fit the memory budget.
    """
    check_mode(classifier.method, mode)
    anything = len(hidden) or len(fimg)
    if mode == "exact" or not classifier.method.facts.conditional or not anything:
        return classifier
    if classifier.phrases:
        raise UsageError(f"classes of several phrases cannot be tested {mode}; test them exactly")
    linearised = linearise(classifier, fimg, hidden, cache)
    return Screened(linearised) if mode == "screened" else linearised


def quickest(classifier: Classifier, images: int) -> TestingMode:
    """Return "screened" where that costs less than all exact logits."""
    method, names = classifier.method, len(classifier.class_names)
    if not method.facts.conditional or classifier.phrases or not isinstance(method, WithHidden):
        return "exact"
    cost = cost_in_images(method, "screened", images, names, classifier.backbone.embed_dim)
    return "screened" if cost < images else "exact"


def cost_in_images(method: Method, mode: TestingMode, images: int, names: int, embed_dim: int) -> int:
    """Return for how many images exact logits would cost what those of a mode cost for `images`."""
    if mode == "exact" or not isinstance(method, WithHidden):
        return images
    parameter = next(method.parameters())
    linearising = 2 * hidden_of(method, parameter.new_zeros(1, embed_dim)).shape[1] + 1
    share = min(1.0, 2 * FIRST / names) if mode == "screened" else 0.0  # a few classes cost more than theirs
    return linearising + math.ceil(share * images)


def approximation(answers: Predictor, fimg: Float[Tensor, "n d"]) -> dict[str, float]:
    """Return how far the logits of a predictor are off, by name, for a record; nothing where they are exact.

    Args:
        answers: has predicted the images.
        fimg: some of them are computed exactly to compare linear logits with; screened ones were already.
    """
    if isinstance(answers, Screened):
        found = answers.measured
        share = found.exact / (found.images * len(answers.class_names))
        return {"error": found.error, "images": float(found.images), "exact": share}
    if isinstance(answers, Linearised):
        few = fimg[:COMPARED]
        error = (answers.predict(few) - answers.classifier.predict(few)).abs().max()
        return {"error": float(error), "images": float(len(few))}
    return {}


def check_mode(method: Method, mode: TestingMode) -> None:
    """Raise UsageError where a method cannot be tested in a mode."""
    if mode != "exact" and method.facts.conditional and not isinstance(method, WithHidden):
        raise UsageError(
            f"{method.facts.name} cannot be tested {mode}: its context vectors are no affine function of a "
            "small hidden vector of the image; test it exactly"
        )
