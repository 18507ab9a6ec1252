"""Which view is taken of an image: the test view, one of a training, or a look at a test image."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from cocoop.errors import UsageError

SCALE = (0.08, 1.0)  # of a training crop, as shares of the image's area
FLIP = 0.5  # probability of a mirrored training view
Augmentation = Literal["crop", "mirror", "randaugment", "none"]
AUGMENTATIONS: tuple[str, ...] = get_args(Augmentation)
Look = Literal["training", "randaugment", "crop", "augmix"]


@dataclass(frozen=True)
class View:
    """Which view is taken of every image of a list.

    Attributes:
        seeds: of a random crop and flip of each image; None for the test view.
        crop: smallest share of an image's area that a random crop has.
        mirrored: whether the test view is mirrored.
        look: whether a random view is one of "training", "randaugment" in place of crop and flip, or one by
            which a method looks at a test image: a bilinear "crop", or "augmix" on top.
    """

    seeds: tuple[int, ...] | None = None
    crop: float = SCALE[0]
    mirrored: bool = False
    look: Look = field(default="training", repr=False)

    def part(self, start: int, end: int) -> "View":
        """Return the view of a part of the list."""
        return self if self.seeds is None else replace(self, seeds=self.seeds[start:end])

    def at(self, places: Sequence[int]) -> "View":
        """Return the view of the images at some places of the list."""
        seeds = self.seeds
        return self if seeds is None else replace(self, seeds=tuple(seeds[place] for place in places))

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return repr(self) if self.look == "training" else f"{self!r} {self.look}"


TEST = View()


def training_view(
    seed: int, epoch: int, count: int, augmentation: Augmentation = "crop", crop: float = SCALE[0]
) -> View:
    """Return the view that an epoch of a training has of `count` images.

    It depends on the seed of the run, the epoch and the place in the list alone.
    """
    if augmentation == "crop":
        return View(tuple(view_seeds(seed, epoch, count)), crop)
    if augmentation == "randaugment":
        return View(tuple(view_seeds(seed, epoch, count)), look="randaugment")
    return View(mirrored=augmentation == "mirror" and epoch % 2 == 1)


@dataclass(frozen=True)
class ImageViews:
    """The views of a test image that a method looks at: the test view, and random ones.

    Attributes:
        count: of all of them.
        augmix: whether AugMix is applied to the random ones.
    """

    count: int = 1
    augmix: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"a test image is seen in at least 1 view, not {self.count}")

    def of(self, seed: int, images: int) -> list[View]:
        """Return the views of so many images, drawn from a seed."""
        look: Look = "augmix" if self.augmix else "crop"
        drawn = (tuple(view_seeds(seed, turn, images)) for turn in range(1, self.count))
        return [TEST, *(View(seeds, look=look) for seeds in drawn)]


def view_seeds(seed: int, epoch: int, count: int) -> list[int]:
    """Seeds of the augmented views of one epoch: a pure function of run seed, epoch and place."""
    return np.random.SeedSequence((seed, epoch)).generate_state(count).tolist()
