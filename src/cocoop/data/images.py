"""Image files to tensors: CLIP's test transform and the few-shot training augmentation."""

import io
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from cocoop.data.dataset import Decode, Item
from cocoop.errors import CocoopError
from cocoop.utils.display import reason
from cocoop.utils.seeding import seeded

SCALE = (0.08, 1.0)  # of a training crop, as shares of the image's area
FLIP = 0.5  # probability of a mirrored training view
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # of image files, in lower case

# of what Pillow reads; EPS, for one, would start another program
Image.init()
FORMATS = tuple(
    kind
    for kind in ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
    if kind in Image.OPEN  # AVIF depends on the build
)
MAX_PIXELS = 89_478_485  # Pillow's threshold for a possible decompression bomb
MAX_BYTES = 3 * MAX_PIXELS + (1 << 20)  # of a file: so many pixels uncompressed, and what is said of them

UNREADABLE = (OSError, KeyError, ValueError)  # what the functions below raise for a file that is no image


def read_bytes(root: Path, path: str) -> bytes:
    """Return the file at `path` under `root`, a folder or a .zip archive.

    Raises:
        OSError, KeyError: there is none.
        ValueError: it is damaged, larger than an image may be, or no regular file.
        CocoopError: the archive cannot be read.
    """
    if root.suffix != ".zip":
        return read_file(root / path)
    archive = open_archive(root)
    _check_bytes(archive.getinfo(path).file_size)
    try:
        return archive.read(path)
    except Exception as error:  # whatever a damaged member provokes in a decompressor
        raise ValueError(reason(error)) from error


def read_file(path: Path) -> bytes:
    """Return a file of a folder; raises as `read_bytes` does."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe, which might never end
        raise ValueError("it is no regular file")
    _check_bytes(found.st_size)
    return path.read_bytes()


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open an archive, once for all its readers. Raises CocoopError where it cannot be read."""
    try:
        found = path.stat()
        return _archive(path, (found.st_ino, found.st_size, found.st_mtime_ns))
    except Exception as error:  # whatever a damaged list of members provokes
        raise CocoopError(f"the archive {path} cannot be read: {reason(error)}") from error


@lru_cache(maxsize=4)
def _archive(path: Path, version: tuple[int, ...]) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image file of a kind and a size that are read; its pixels are decoded in the block.

    Raises:
        ValueError: it is no such image, or damaged, which may show in the block only.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_pixels(image)
            yield image
    except UnidentifiedImageError:
        raise ValueError(f"it is no image, or not of a kind that is read ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(_too_large()) from None
    except Exception as error:  # whatever a damaged file provokes in a decoder
        raise ValueError(reason(error)) from error


def check_pixels(image: Image.Image) -> None:
    """Check the size of an image before it is decoded. Raises ValueError where it has too many pixels."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(_too_large())


def open_image(root: Path, path: str, decode: Decode | None = None) -> Image.Image:
    """Open and decode one image as RGB, the dataset's way if it has one.

    Raises:
        CocoopError: the file is missing, unreadable or not an image.
    """
    try:
        data = read_bytes(root, path)
        if decode:
            return decode(data)
        with opened(data) as image:
            return image.convert("RGB")
    except UNREADABLE as error:
        raise CocoopError(f"cannot read the image {path} under {root}: {error}") from error


def _check_bytes(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(
            f"it has {size:,} bytes, more than the {MAX_BYTES:,} of the largest image that is read"
        )


def _too_large() -> str:
    return f"it has more than {MAX_PIXELS:,} pixels; make it smaller"


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
