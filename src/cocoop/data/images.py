"""Image files to tensors: CLIP's test transform and the few-shot training augmentation."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from cocoop.data.spec import Decode, Item
from cocoop.errors import CocoopError
from cocoop.seeding import seeded

SCALE = (0.08, 1.0)  # of a training crop, as shares of the image's area
FLIP = 0.5  # probability of a mirrored training view
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # of image files, in lower case

# what Pillow and the archive raise for files that are no images, damaged or missing
UNREADABLE = (OSError, KeyError, SyntaxError, ValueError, zipfile.BadZipFile)


def read_bytes(root: Path, path: str) -> bytes:
    """Return the file at `path` under `root`, a folder or a .zip archive."""
    if root.suffix == ".zip":
        return _archive(root).read(path)
    return (root / path).read_bytes()


def open_image(root: Path, path: str, decode: Decode | None = None) -> Image.Image:
    """Open and decode one image as RGB, the dataset's way if it has one.

    Raises:
        CocoopError: the file is missing, unreadable or not an image.
    """
    try:
        data = read_bytes(root, path)
        if decode:
            return decode(data)
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise CocoopError(f"cannot read the image {path} under {root}: {error}") from error


@lru_cache(maxsize=4)
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


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


def test_batch(
    root: Path, items: Sequence[Item], preprocess: Preprocess, decode: Decode | None
) -> Float[Tensor, "b 3 s s"]:
    """Load `items` for evaluation."""
    return torch.stack([preprocess.test(open_image(root, item.path, decode)) for item in items])


def train_batch(
    root: Path,
    items: Sequence[Item],
    preprocess: Preprocess,
    seeds: Sequence[int],
    decode: Decode | None = None,
) -> Float[Tensor, "b 3 s s"]:
    """Load `items` for training, the view of each drawn from its own seed."""
    pairs = zip(items, seeds, strict=True)
    return torch.stack([preprocess.train(open_image(root, item.path, decode), seed) for item, seed in pairs])
