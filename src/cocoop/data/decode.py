"""Image files, and whatever else holds an image, as RGB images of Pillow.

Benchmark images are decoded as the published numbers were made: the stored pixels, converted to RGB.
A person's own images (`decode_photo`, `to_image`) are turned as their EXIF orientation says, laid on white
where they are transparent, and scaled where they have 16 bits a pixel. Of an animation the first frame is
taken.
"""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Union

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from cocoop.data.storage import UNREADABLE, Root, read_bytes, read_file
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import reason

if TYPE_CHECKING:
    from torch import Tensor

# The kinds that are read, and how their files end: not all that Pillow reads, as EPS would start a program.
KINDS = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpeg", ".jpg"),
    "JPEG2000": (".jp2",),
    "PNG": (".png",),
    "PPM": (".pgm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
SUFFIXES = tuple(suffix for suffixes in KINDS.values() for suffix in suffixes)
Image.init()
FORMATS = tuple(kind for kind in KINDS if kind in Image.OPEN)  # AVIF depends on the build
MAX_PIXELS = 89_478_485  # Pillow's threshold for a possible decompression bomb

Decode = Callable[[bytes], Image.Image]  # an image file to RGB; raises ValueError for one that is none
ImageLike = Union[str, os.PathLike[str], Image.Image, np.ndarray, "Tensor"]  # what `to_image` takes


def is_image_name(name: str) -> bool:
    """Whether a file's name ends as those of images do."""
    return name.lower().endswith(SUFFIXES)


def open_image(root: Root, path: str, decode: Decode | None = None) -> Image.Image:
    """Open and decode one image of a dataset as RGB.

    Args:
        root: of the dataset.
        path: of the image below it.
        decode: the dataset's own way; None for the benchmarks'.

    Raises:
        CocoopError: the file is missing, unreadable or not an image.
    """
    try:
        return (decode or decode_stored)(read_bytes(root, path))
    except UNREADABLE as error:
        raise CocoopError(f"cannot read the image {path} under {root}: {error}") from error


def decode_stored(data: bytes) -> Image.Image:
    """Decode an image file as it is stored. Raises ValueError for one that is damaged or refused."""
    with _opened(data) as image:
        return image.convert("RGB")


def decode_photo(data: bytes) -> Image.Image:
    """Decode an image file upright, on white. Raises ValueError for one that is damaged or refused."""
    with _opened(data) as image:
        return _as_photo(image)


def to_image(source: object) -> Image.Image:
    """Return one of a person's own images as RGB.

    Args:
        source: a path, a Pillow image, an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), or a tensor
            (h, w) or (c, h, w) with 1, 3 or 4 channels. Numbers are integers from 0 to 255 or floats from
            0 to 1.

    Raises:
        CocoopError: a file is missing or unreadable, or pixels are out of range.
        UsageError: something else than an image.
    """
    if isinstance(source, str | os.PathLike):
        try:
            return decode_photo(read_file(Path(source)))
        except UNREADABLE as error:
            raise CocoopError(f"cannot read the image {os.fspath(source)}: {error}") from error
    if isinstance(source, Image.Image):
        try:
            return _as_photo(source)
        except Exception as error:  # it may be decoded only now
            raise CocoopError(f"cannot use an image of mode {source.mode}: {error}") from error
    if isinstance(source, np.ndarray):
        return _from_array(source)
    from torch import Tensor  # here, so that listing datasets does not wait for it

    if isinstance(source, Tensor):
        array = source.detach().cpu().numpy()
        return _from_array(np.moveaxis(array, 0, -1) if array.ndim == 3 else array)
    raise UsageError(f"an image is a path, a Pillow image, an array or a tensor, not {type(source).__name__}")


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image file of a kind and a size that are read; its pixels are decoded in the block.

    Raises:
        ValueError: it is no such image, or damaged, which may show in the block only.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image)
            yield image
    except UnidentifiedImageError:
        raise ValueError(f"it is no image, or not of a kind that is read ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(_too_large()) from None
    except Exception as error:  # whatever a damaged file provokes in a decoder
        raise ValueError(reason(error)) from error


def _check_pixels(image: Image.Image) -> None:
    """Check the size of an image before it is decoded. Raises ValueError where it has too many pixels."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(_too_large())


def _too_large() -> str:
    return f"it has more than {MAX_PIXELS:,} pixels; make it smaller"


def _as_photo(image: Image.Image) -> Image.Image:
    """Return an image upright, on white, with 8 bits a channel. Raises ValueError where that has no sense."""
    _check_pixels(image)
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError(
            "its pixels are floating-point numbers of an unknown range; save it with 8 or 16 bits"
        )
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip to 8
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")  # large ones are not copied
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise UsageError(
            f"an image array has the shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), a tensor the channels "
            f"first; not {pixels.shape}"
        )
    scale = 255 if np.issubdtype(pixels.dtype, np.floating) else 1
    values = np.round(pixels.astype(np.float64) * scale)
    if not (values.size and np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255):
        raise CocoopError("pixels must be integers from 0 to 255 or floats from 0 to 1, and at least one")
    values = values.astype(np.uint8)
    return _as_photo(Image.fromarray(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values))
