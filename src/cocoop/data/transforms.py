"""Images to the tensors a backbone takes: CLIP's test transform and the few-shot training augmentation."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from cocoop.data.augmix import augmix
from cocoop.data.views import FLIP, SCALE, TEST, View
from cocoop.errors import CocoopError
from cocoop.utils.seeding import seeded


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
