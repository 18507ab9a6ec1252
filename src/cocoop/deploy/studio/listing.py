"""Which images a view of the page holds, and in which order."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from cocoop.deploy.studio.names import Name
from cocoop.deploy.studio.suggest import SHOWN, Tops

View = Literal["all", "unlabelled", "labelled", "next", "unsure", "wrong", "suspicious", "unreadable"]
VIEWS: tuple[View, ...] = get_args(View)
NOTHING = Tops(np.empty((0, SHOWN), np.int32), np.empty((0, SHOWN), np.float32), np.empty(0, np.float32))


@dataclass(frozen=True)
class Found:
    """What was found out about the images so far; of images that came since, nothing.

    Attributes:
        names: that images are named among: those that CLIP can read.
        problems: why other names cannot be read, or why CLIP makes little of one.
        tops: the likeliest of the names; -1 where an image has no features yet.
        by: who names: "zero-shot" or "model"; "" for nobody yet.
        why: why it is not the model, where there is one.
        group: of every image; -1 where an image has no features yet.
        members: the most typical images of every group.
        proposed: images to label next, the most useful first.
        suspicious: images whose label looks wrong, the most suspicious first.
    """

    names: tuple[Name, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    tops: Tops = NOTHING
    by: str = ""
    why: str = ""
    group: Int[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.int32))
    members: tuple[Int[np.ndarray, " _"], ...] = ()
    proposed: Int[np.ndarray, " p"] = field(default_factory=lambda: np.empty(0, np.int64))
    suspicious: Int[np.ndarray, " s"] = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True)
class Images:
    """Everything that a list of images is made from, as it was at one moment.

    Attributes:
        words: the names.
        labels: the place of every image's name, or -1.
        found: what was found out.
        unreadable: images that cannot be read.
        learned_from: images that the model saw.
        held: held-out images of the model.
        truth: their class among the model's by their label now, or -1.
        answers: the classes that the model gives them.
        classes: of the model.
    """

    words: tuple[str, ...]
    labels: Int[np.ndarray, " n"]
    found: Found
    unreadable: Collection[int] = ()
    learned_from: Int[np.ndarray, " m"] = field(default_factory=lambda: np.empty(0, np.int64))
    held: Int[np.ndarray, " h"] = field(default_factory=lambda: np.empty(0, np.int64))
    truth: Int[np.ndarray, " h"] = field(default_factory=lambda: np.empty(0, np.int64))
    answers: Int[np.ndarray, " h"] = field(default_factory=lambda: np.empty(0, np.int64))
    classes: tuple[str, ...] = ()

    def best(self) -> Int[np.ndarray, " n"]:
        """Return the place of the likeliest name of every image, or -1."""
        place = {name: index for index, name in enumerate(self.words)}
        moved = np.array([*(place.get(each.name, -1) for each in self.found.names), -1])
        first = self.found.tops.places[:, 0]
        return moved[filled(first, len(self.labels))]

    def unsure(self) -> Float[np.ndarray, " n"]:
        """Return how unsure the likeliest name of every image is; -1 where there is none."""
        return filled(self.found.tops.unsure, len(self.labels))

    def chance(self) -> Float[np.ndarray, " n"]:
        """Return the probability of the likeliest name of every image; -1 where there is none."""
        return filled(self.found.tops.chances[:, 0], len(self.labels))

    def group(self) -> Int[np.ndarray, " n"]:
        """Return the group of every image, or -1."""
        return filled(self.found.group, len(self.labels))

    def readable(self) -> Bool[np.ndarray, " n"]:
        """Return which images are not known to be unreadable."""
        mask = np.ones(len(self.labels), bool)
        mask[list(self.unreadable)] = False
        return mask


@dataclass(frozen=True)
class Wanted:
    """Which images are wanted.

    Attributes:
        view: of the page.
        label: only images of this label, or suggested as this where they have none; of unlabelled ones the
            surest first.
        group: only those of this group.
        cell: only held-out images of the first name that the model calls by the second.
    """

    view: View = "all"
    label: str | None = None
    group: int | None = None
    cell: tuple[str, str] | None = None


def listed(wanted: Wanted, images: Images) -> Int[np.ndarray, " k"]:
    """Return the places of the images, in order."""
    places = _view(wanted.view, images)
    mask = np.ones(len(images.labels), bool)
    if wanted.label is not None:
        place = images.words.index(wanted.label) if wanted.label in images.words else -2
        mask &= (images.labels == place) | ((images.labels < 0) & (images.best() == place))
    if wanted.group is not None:
        mask &= images.group() == wanted.group
    if wanted.cell is not None:
        true, answered = (
            images.classes.index(each) if each in images.classes else -2 for each in wanted.cell
        )
        inside = np.zeros_like(mask)
        inside[images.held[(images.truth == true) & (images.answers == answered)]] = True
        mask &= inside
    places = places[mask[places]]
    if wanted.label is not None and wanted.view == "unlabelled":
        places = places[np.argsort(-images.chance()[places], kind="stable")]
    return places


def _view(view: View, images: Images) -> Int[np.ndarray, " k"]:
    labelled = images.labels >= 0
    if view == "labelled":
        return np.flatnonzero(labelled)
    if view == "unlabelled":
        return np.flatnonzero(~labelled & images.readable())
    if view == "unreadable":
        return np.sort(np.array(list(images.unreadable), int))
    if view == "next":
        return images.found.proposed[~labelled[images.found.proposed]]
    if view == "suspicious":
        return images.found.suspicious[labelled[images.found.suspicious]]
    if view == "unsure":
        return _highest(np.where(labelled, -1, images.unsure()))
    if view == "wrong":
        best = images.best()
        wrong = labelled & (best >= 0) & (best != images.labels)
        if images.found.by == "model":
            wrong[images.learned_from] = False
        return _highest(np.where(wrong, images.chance(), -1))
    return np.arange(len(labelled))


def _highest(values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """Return the places of all values that are not negative, the highest first."""
    order = np.argsort(-values, kind="stable")
    return order[: int((values >= 0).sum())]


def filled(values: Sequence[float] | np.ndarray, count: int) -> np.ndarray:
    """Return values for so many images: -1 for those that came since."""
    array = np.asarray(values)
    return np.append(array, np.full(count - len(array), -1, array.dtype))
