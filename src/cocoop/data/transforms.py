"""Images to the tensors a backbone takes: CLIP's test transform and the few-shot training augmentation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from cocoop.errors import CocoopError
from cocoop.utils.seeding import seeded

SCALE = (0.08, 1.0)  # of a training crop, as shares of the image's area
FLIP = 0.5  # probability of a mirrored training view


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

    def train(self, image: Image.Image, seed: int) -> Float[Tensor, "3 s s"]:
        """Random resized crop (scale 0.08 to 1), random flip, normalise; drawn from `seed`."""
        with seeded(seed):
            return self._train(image)

    def batch(
        self, images: Iterable[Image.Image], seeds: Sequence[int] | None = None
    ) -> Float[Tensor, "b 3 s s"]:
        """Return the test views of images, or a training view of each, drawn from its own seed."""
        if seeds is None:
            return torch.stack([self.test(image) for image in images])
        return torch.stack([self.train(image, seed) for image, seed in zip(images, seeds, strict=True)])

    @cached_property
    def _test(self) -> v2.Compose:
        size = self.size if self.resize_mode == "shortest" else [self.size, self.size]
        resize = v2.Resize(size, interpolation=InterpolationMode(self.interpolation))
        return v2.Compose([resize, v2.CenterCrop(self.size), *self._to_tensor])

    @cached_property
    def _train(self) -> v2.Compose:
        interpolation = InterpolationMode(self.interpolation)
        crop = v2.RandomResizedCrop(self.size, scale=SCALE, interpolation=interpolation)
        return v2.Compose([crop, v2.RandomHorizontalFlip(FLIP), *self._to_tensor])

    @cached_property
    def _to_tensor(self) -> list[v2.Transform]:
        return [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(self.mean), list(self.std)),
        ]
