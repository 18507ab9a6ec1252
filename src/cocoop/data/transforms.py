"""Images to the tensors a backbone takes: CLIP's test transform and the few-shot training augmentation."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from cocoop.data.augmix import augmix
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.seeding import seeded

SCALE = (0.08, 1.0)  # of a training crop, as shares of the image's area
FLIP = 0.5  # probability of a mirrored training view
Augmentation = Literal["crop", "mirror", "none"]
AUGMENTATIONS: tuple[str, ...] = get_args(Augmentation)
Look = Literal["training", "crop", "augmix"]


@dataclass(frozen=True)
class View:
    """Which view is taken of every image of a list.

    Attributes:
        seeds: of a random crop and flip of each image; None for the test view.
        crop: smallest share of an image's area that a random crop has.
        mirrored: whether the test view is mirrored.
        look: whether a random view is one of "training", or one by which a method looks at a test image: a
            bilinear "crop", or "augmix" on top.
    """

    seeds: tuple[int, ...] | None = None
    crop: float = SCALE[0]
    mirrored: bool = False
    look: Look = field(default="training", repr=False)

    def part(self, start: int, end: int) -> "View":
        """Return the view of a part of the list."""
        seeds = None if self.seeds is None else self.seeds[start:end]
        return View(seeds, self.crop, self.mirrored, self.look)

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


@dataclass(frozen=True)
class Preprocess:
    """The pixels a backbone expects.

    Attributes:
        size: edge of the square input, in pixels.
        mean: of the RGB channels, on the scale [0, 1].
        std: of the RGB channels, on the same scale.
        interpolation: "bicubic" as in CLIP, or "bilinear".
        resize_mode: of test images: "shortest" edge to `size` and a centre crop, as in CLIP, or "squash".
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"

    def __post_init__(self) -> None:
        if self.resize_mode not in ("shortest", "squash"):
            raise CocoopError(f"the backbone resizes images by {self.resize_mode!r}, which is not supported")

    def test(self, image: Image.Image) -> Float[Tensor, "3 s s"]:
        """Resize, centre crop, normalise."""
        return self._test(image)

    def train(self, image: Image.Image, seed: int, crop: float = SCALE[0]) -> Float[Tensor, "3 s s"]:
        """Random resized crop (scale `crop` to 1), random flip, normalise; drawn from `seed`."""
        with seeded(seed):
            return self._train(crop)(image)

    def batch(self, images: Iterable[Image.Image], view: View = TEST) -> Float[Tensor, "b 3 s s"]:
        """Return a view of every image."""
        if view.seeds is None:
            views = torch.stack([self.test(image) for image in images])
            return views.flip(-1) if view.mirrored else views
        pairs = zip(images, view.seeds, strict=True)
        if view.look == "training":
            return torch.stack([self.train(image, seed, view.crop) for image, seed in pairs])
        return torch.stack([self._look(image, seed, view.look == "augmix") for image, seed in pairs])

    def _look(self, image: Image.Image, seed: int, mixed: bool) -> Float[Tensor, "3 s s"]:
        """Return a random view of a test image, as TPT draws it: its crops are bilinear."""
        crop = v2.RandomResizedCrop(self.size, SCALE, interpolation=InterpolationMode.BILINEAR)
        with seeded(seed):
            small = v2.RandomHorizontalFlip(FLIP)(crop(image))
        normalise = v2.Compose(self._to_tensor)
        return augmix(small, normalise, seed) if mixed else normalise(small)

    @cached_property
    def _test(self) -> v2.Compose:
        size = self.size if self.resize_mode == "shortest" else [self.size, self.size]
        resize = v2.Resize(size, interpolation=InterpolationMode(self.interpolation))
        return v2.Compose([resize, v2.CenterCrop(self.size), *self._to_tensor])

    @lru_cache  # noqa: B019 - of a frozen value
    def _train(self, least: float) -> v2.Compose:
        interpolation = InterpolationMode(self.interpolation)
        crop = v2.RandomResizedCrop(self.size, scale=(least, SCALE[1]), interpolation=interpolation)
        return v2.Compose([crop, v2.RandomHorizontalFlip(FLIP), *self._to_tensor])

    @cached_property
    def _to_tensor(self) -> list[v2.Transform]:
        return [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(self.mean), list(self.std)),
        ]
