"""What a method declares about itself: everything that tables, plots, cards and checks ask of a method."""

from dataclasses import dataclass
from typing import Literal

Training = Literal["none", "steps", "closed form"]
Cut = Literal["feature", "projection", "block", "pixels"]
Selection = Literal["nothing", "few-shot validation", "full validation", "test"]
Adaptation = Literal["nothing", "views", "stream", "whole set"]


@dataclass(frozen=True)
class Paper:
    """Where a method was published.

    Attributes:
        title: of the paper.
        authors: "Family et al.", as it is cited.
        venue: with the year, e.g. "CVPR 2022".
        date: year and month in which it first appeared, "2022-03"; tables and colours follow it.
        link: to a page that stays.
        code: the source that the presets and the arithmetic follow; empty where there is none.
    """

    title: str
    authors: str
    venue: str
    date: str
    link: str
    code: str = ""


@dataclass(frozen=True)
class Facts:
    """The declared facts of a method.

    Attributes:
        name: what the method is called, e.g. "CoCoOp".
        summary: what it does, as the rest of a sentence that begins with the name.
        paper: where it was published.
        images: whether it uses labelled images of the classes.
        sentences: whether it needs sentences about the classes.
        training: whether it takes steps on batches, is computed from all features at once ("closed form"), or
            learns nothing.
        draws: whether it draws at random although it learns nothing, so that seeds differ.
        conditional: whether its context vectors depend on the image.
        by_image: whether its own loss is the mean of what single images would give, as cross-entropy is.
        cut: where the image tower stops being frozen; features are cached there.
        selects_on: what its hyper-parameters are selected on.
        sees_new_names: whether training sees the names of the classes that are tested as new: they are
            candidates then, behind those of the training.
        adapts_to: what of the test images, which have no labels, it adapts itself to before it answers:
            nothing, the "views" of each image alone, the images before it in a "stream", or the "whole set".
        extends: registered name of the method it improves on; reports show the gain over it.
        baseline: whether the others are measured by it.
        bound: whether it has values of its own for every class name, and so answers among no other.
        quick: name of the preset that fits in seconds from image features; empty where none does.
        ablation: whether it exists to ask a question about another method.
    """

    name: str
    summary: str
    paper: Paper
    images: bool = True
    sentences: bool = False
    training: Training = "steps"
    draws: bool = False
    conditional: bool = False
    by_image: bool = False
    cut: Cut = "feature"
    selects_on: Selection = "nothing"
    sees_new_names: bool = False
    adapts_to: Adaptation = "nothing"
    extends: str | None = None
    baseline: bool = False
    bound: bool = False
    quick: str = ""
    ablation: bool = False

    @property
    def needs(self) -> str:
        """What it needs beside the names of the classes, in words; empty for nothing."""
        return "images" if self.images else "sentences" if self.sentences else ""

    @property
    def learns(self) -> bool:
        """Whether anything is fitted, by steps or in closed form."""
        return self.training != "none"

    @property
    def sees_test_images(self) -> bool:
        """Whether it adapts itself to test images, so that it is compared with its like alone."""
        return self.adapts_to != "nothing"

    @property
    def adaptation(self) -> str:
        """What it adapts itself to, in words; empty for nothing."""
        return {
            "nothing": "",
            "views": "views of each test image alone",
            "stream": "the test images before each one, in a stream",
            "whole set": "all test images at once",
        }[self.adapts_to]
