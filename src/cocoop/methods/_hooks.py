"""What a method may do beyond making context vectors: every hook is optional, and found by its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cocoop.backbones.block import Changes
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.data.views import ImageViews
from cocoop.methods._facts import Selection

# The method's name for a list of t templates -> raw frozen features of the current class names, (t, c, d).
Text = Mapping[str, Tensor]
NO_TEXT: Text = MappingProxyType({})


class Sentences(NamedTuple):
    """Sentences about the classes, as many of each as there are.

    Attributes:
        features: raw and frozen, of all sentences in the order of the classes.
        labels: the class of each.
    """

    features: Float[Tensor, "s d"]
    labels: Int[Tensor, " s"]


@dataclass(frozen=True, eq=False)
class Output:
    """Images and candidates, encoded: what logits and losses are computed from.

    Attributes:
        fimg: image features as the tower gives them.
        others: further features of each image, of a method that learns inside the image tower.
        ftxt: text features under the learned prompts, as the tower gives them, of an ensemble their
            normalised mean; 1 in the first place: for all images. A method that is not conditional may
            have several samples there, which its own logits combine.
        logit_scale: exp of CLIP's temperature.
        text: the frozen text features that the method asked for, and what it derived from them.
        sentences: those about the classes that it asked for.
        rows: the place of every candidate among the class names of the training; None where one has none.
        head: the method's own logits, where it has some.
        approximate: CLIP's logits to first order, where no text feature was computed to have them from.
    """

    fimg: Float[Tensor, "b d"]
    others: Float[Tensor, "b k d"]
    ftxt: Float[Tensor, "s c d"]
    logit_scale: float
    text: Text
    sentences: Mapping[str, Sentences]
    rows: Int[Tensor, " c"] | None
    head: "Callable[[Output], Tensor] | None" = None
    approximate: Float[Tensor, "b c"] | None = None

    @cached_property
    def zimg(self) -> Float[Tensor, "b d"]:
        """L2-normalised image features."""
        return F.normalize(self.fimg, dim=-1)

    @cached_property
    def ztxt(self) -> Float[Tensor, "s c d"]:
        """L2-normalised text features."""
        return F.normalize(self.ftxt, dim=-1)

    @cached_property
    def similarity(self) -> Float[Tensor, "b c"]:
        """CLIP's logits: the cosine times the logit scale."""
        if self.approximate is not None:
            return self.approximate
        if self.ztxt.shape[0] == 1:
            return self.logit_scale * self.zimg @ self.ztxt[0].T
        return self.logit_scale * torch.einsum("bd,bcd->bc", self.zimg, self.ztxt)

    @cached_property
    def logits(self) -> Float[Tensor, "b c"]:
        """The method's own logits, or CLIP's."""
        return self.head(self) if self.head else self.similarity


@dataclass(frozen=True, eq=False)
class Bank:
    """All that a method is computed from in closed form, starts from, or is selected on.

    Attributes:
        fimg: v views of the n training images, as the image tower gives them, or what they are at the cut.
        labels: their classes.
        fval: test views of the validation images; there may be none.
        val_labels: their classes.
        logit_scale: exp of CLIP's temperature.
        text: the frozen text features that the method asked for.
        sentences: those about the classes that it asked for.
        seed: of everything drawn at random.
    """

    fimg: Float[Tensor, "v n *l d"]
    labels: Int[Tensor, " n"]
    fval: Float[Tensor, "m *l d"]
    val_labels: Int[Tensor, " m"]
    logit_scale: float
    text: Text
    sentences: Mapping[str, Sentences]
    seed: int


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Test images, whose labels nobody tells, and the candidates.

    Attributes:
        fimg: v views of n images, as the image tower gives them; the test view is the first.
        encode: makes raw text features of the candidates, (1 or n, c, d), of context vectors, for all images
            or for each; gradients go through it.
        logit_scale: exp of CLIP's temperature.
        text: the frozen text features that the method asked for, and what it derived from them.
        rows: the place of every candidate among the class names of the training; None where one has none.
    """

    fimg: Float[Tensor, "n v d"]
    encode: Callable[[Tensor], Tensor]
    logit_scale: float
    text: Text
    rows: Int[Tensor, " c"] | None

    @cached_property
    def zimg(self) -> Float[Tensor, "n v d"]:
        """L2-normalised image features."""
        return F.normalize(self.fimg, dim=-1)


@runtime_checkable
class WithTexts(Protocol):
    """A method that knows the class names by templates.

    Attributes:
        texts: templates with `{}` for the class name, by the name under which their features are handed
            over. They are encoded for whatever names are the candidates, so they are no state of the method.
    """

    texts: Mapping[str, tuple[str, ...]]


@runtime_checkable
class WithSentences(Protocol):
    """A method that knows the classes by sentences of their own."""

    def sentences(self, class_names: Sequence[str]) -> Mapping[str, Sequence[Sequence[str]]]:
        """Return sentences of every class, by the name under which their features are handed over.

        Raises:
            UsageError: there are none about a class.
        """
        ...


@runtime_checkable
class WithDerived(Protocol):
    """A method that computes something once for every list of names, when it is trained."""

    def derive(self, text: Text, rows: Int[Tensor, " c"] | None) -> Text:
        """Return what is to be found in `Output.text` beside the features of templates."""
        ...


@runtime_checkable
class WithImage(Protocol):
    """A method that learns inside the image tower, which must be CLIP's vision transformer.

    Parameters are its own; the tower is frozen and an argument. A deterministic function of the images once
    it is trained; in training it may draw from torch's own generators, which are seeded anew for every step.

    Attributes:
        cut: where the tower stops being frozen; what images are there is computed once.
    """

    cut: Cut

    def image(self, state: Float[Tensor, "b *n w"], tower: VisionTower) -> Float[Tensor, "b kd"]:
        """Return k features of every image, one behind the other, of d numbers each.

        The first is compared with the texts; `Output.others` has the rest. Each depends on its own image
        alone.
        """
        ...


def cut_of(method: object) -> Cut:
    """Return where the image tower stops being frozen; most methods leave all of it as it is."""
    return method.cut if isinstance(method, WithImage) else "feature"


@runtime_checkable
class WithTextChanges(Protocol):
    """A method that learns inside the blocks of the text tower, which must have a token tree."""

    def text_changes(self) -> Changes:
        """Return what it changes there; may draw in training, as `WithImage`."""
        ...


@runtime_checkable
class WithHidden(Protocol):
    """A method whose context vectors are an affine function of a small hidden vector of the image.

    Its text features can then be linearised (`cocoop.text.linear`). Logits of its own use text features by
    `out.similarity` alone, and the logit of a class by that class's alone.
    """

    def hidden(self, zimg: Float[Tensor, "b d"]) -> Float[Tensor, "b r"]:
        """Return the hidden vectors of L2-normalised image features."""
        ...

    def from_hidden(self, hidden: Float[Tensor, "b r"]) -> Float[Tensor, "b 1 m w"]:
        """Return the context vectors; those of an image are `from_hidden(hidden(zimg))`."""
        ...


@runtime_checkable
class WithLogits(Protocol):
    """A method whose logits are no scaled cosine of its text features."""

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Return the logits; `out.similarity` has CLIP's."""
        ...


@runtime_checkable
class WithLoss(Protocol):
    """A method with more than cross-entropy."""

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Return the terms of the loss by name; their sum is minimised."""
        ...


@runtime_checkable
class WithGradientRule(Protocol):
    """A method that combines the gradients of its terms otherwise than by their sum."""

    def combine(self, gradients: Sequence[Tensor]) -> Tensor:
        """Return the gradient of a parameter from those of the terms, in the order of `loss`."""
        ...


@runtime_checkable
class WithSearch(Protocol):
    """A method that tries values out, where others take a step along the gradient."""

    def search(self, loss: Callable[[], float]) -> None:
        """Change what is learned; `loss` tells what it is worth on the batch, gradients are in place."""
        ...


@runtime_checkable
class WithSecondStage(Protocol):
    """A method whose steps have two stages; `Recipe.first_stage` says when the second begins."""

    def second_stage(self, ftxt: Float[Tensor, "c d"]) -> None:
        """Begin the second stage.

        What gets no gradient in a stage stays as it is, without weight decay too.

        Args:
            ftxt: raw text features of the training classes under what the first has learned.
        """
        ...


@runtime_checkable
class WithSelection(Protocol):
    """A method that selects on validation images of a kind that its settings say.

    Attributes:
        selects_on: the kind.
    """

    selects_on: Selection


@runtime_checkable
class WithFit(Protocol):
    """A method computed from features in closed form, or that starts its steps from them."""

    def fit(self, bank: Bank) -> None:
        """Set what is learned, before any step."""
        ...


@runtime_checkable
class WithFinish(Protocol):
    """A method that has something to select or to say when its steps are done."""

    def finish(self, bank: Bank) -> dict[str, Any]:
        """Set what is selected; return it by name, for the record."""
        ...


@runtime_checkable
class WithStepViews(Protocol):
    """A method whose steps see several views of every image at once.

    Attributes:
        step_views: how many; they stand in the second place of what it is given of the images in a step.
    """

    step_views: int


def step_views_of(method: object) -> int:
    """Return how many views of every image a method sees in a step; most see one, which has no place."""
    return method.step_views if isinstance(method, WithStepViews) else 1


@runtime_checkable
class WithImageViews(Protocol):
    """A method that looks at several views of every test image.

    Attributes:
        image_views: how many, and how they are made.
    """

    image_views: ImageViews


def views_of(method: object) -> ImageViews:
    """Return the views of every test image that a method looks at; most see the test view alone."""
    return method.image_views if isinstance(method, WithImageViews) else ImageViews()


@runtime_checkable
class WithAdapt(Protocol):
    """A method that adapts itself to each test image alone, and starts anew with the next."""

    def adapt(self, images: Unlabelled) -> Float[Tensor, "n c"]:
        """Return the logits of the images; each depends on its own views alone."""
        ...


@runtime_checkable
class WithObserve(Protocol):
    """A method that adapts itself to the test images as they come, one after the other."""

    def observe(self, images: Unlabelled) -> Float[Tensor, "n c"]:
        """Return the logits of a stream from its beginning; each depends on the images up to its own."""
        ...


@runtime_checkable
class WithAssign(Protocol):
    """A method that answers all test images at once."""

    def assign(self, images: Unlabelled) -> tuple[Float[Tensor, "n c"], dict[str, Any]]:
        """Return the logits of the images, and by name what was selected, for the record."""
        ...
