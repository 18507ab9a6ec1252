"""A trained model among the labels, and how good it is on labelled images that it did not see."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from cocoop.deploy.studio.names import Name, called

if TYPE_CHECKING:  # the page is there before torch is loaded
    from cocoop.estimator import PromptClassifier

Z = 1.959963984540054  # of 95 percent
Ask = Callable[[Float[np.ndarray, "n d"]], Float[np.ndarray, "n c"]]  # image features to probabilities


@dataclass(frozen=True, eq=False)  # one is equal to itself alone
class Learned:
    """A trained model, and its answers to the held-out images.

    Attributes:
        model: the classifier.
        names: that it was trained on, with phrases, in the order of its classes.
        train: places of the images it learned from, or selected settings on.
        held: places of the held-out images.
        answers: the classes it gives these.
        zero_shot: the classes that zero-shot CLIP gives these.
    """

    model: "PromptClassifier"
    names: tuple[Name, ...]
    train: Int[np.ndarray, " n"]
    held: Int[np.ndarray, " h"]
    answers: Int[np.ndarray, " h"]
    zero_shot: Int[np.ndarray, " h"]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names as texts."""
        return tuple(each.name for each in self.names)

    @property
    def open(self) -> bool:
        """Whether it answers for names that it was not trained on."""
        return bool(self.model.method_.transferable)

    def again(self) -> "PromptClassifier":
        """Return the same model for one who asks alone: a model keeps what it was asked last."""
        model = self.model
        return type(model)(**model.get_params())._set_fitted(model.backbone_, model.method_, model.info_)

    def among(self, names: Sequence[Name]) -> Ask:
        """Return what gives the calibrated probabilities of image features among names.

        Raises:
            UsageError: it answers among its own names alone, or CLIP cannot read one.
        """
        from torch import from_numpy  # the page is there before torch is loaded

        model, classes = self.again(), called(names)
        model.classifier(classes)  # which refuses
        return lambda raw: model.probabilities(from_numpy(raw), classes).numpy()

    def truth(self, words: Sequence[str], labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " h"]:
        """Return which class every held-out image is labelled with now; -1 for none of them."""
        place = {name: index for index, name in enumerate(self.classes)}
        moved = np.array([*(place.get(word, -1) for word in words), -1])
        return moved[labels[self.held]]


@dataclass(frozen=True)
class Score:
    """How many of some images are right.

    Attributes:
        correct: of them.
        total: all.
    """

    correct: int
    total: int

    @property
    def accuracy(self) -> float | None:
        """The share; None of no images."""
        return self.correct / self.total if self.total else None

    @property
    def interval(self) -> list[float] | None:
        """Wilson's interval of 95 percent (1927) for it; None for no images."""
        return list(wilson(self.correct, self.total)) if self.total else None


def wilson(correct: int, total: int, z: float = Z) -> tuple[float, float]:
    """Return Wilson's score interval of a share: within 0 and 1, and of some width also at 0 and at 1."""
    share = correct / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)
