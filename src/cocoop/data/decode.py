"""Image files, and whatever else holds an image, as RGB images of Pillow.

Benchmark images are decoded as the published numbers were made: the stored pixels, converted to RGB.
A person's own images (`decode_photo`, `to_image`) are turned as their EXIF orientation says, laid on white
where they are transparent, and scaled where they have 16 bits a pixel. Of an animation the first frame is
taken. HEIC is read where the extra `heic` is installed.
"""

import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
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
    "HEIF": (".heic", ".heif", ".hif"),
    "JPEG": (".jpeg", ".jpg"),
    "JPEG2000": (".jp2",),
    "PNG": (".png",),
    "PPM": (".pgm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
try:
    from pillow_heif import register_heif_opener
except ImportError:
    HEIC = False
else:
    register_heif_opener()
    HEIC = True
Image.init()
FORMATS = tuple(kind for kind in KINDS if kind in Image.OPEN)  # AVIF depends on the build
SUFFIXES = tuple(suffix for kind in FORMATS for suffix in KINDS[kind])
# images and films that people have and that are not read; they are named where they are passed over
UNREAD = (
    *(
        ".arw",
        ".avi",
        ".avif",
        ".cr2",
        ".cr3",
        ".dcm",
        ".dng",
        ".eps",
        ".exr",
        ".hdr",
        ".heic",
        ".heif",
        ".hif",
    ),
    *(
        ".ico",
        ".jfif",
        ".jpe",
        ".jxl",
        ".mov",
        ".mp4",
        ".nef",
        ".npy",
        ".orf",
        ".pcx",
        ".pdf",
        ".psd",
        ".raf",
    ),
    *(".rw2", ".svg", ".tga"),
)
DEPTHS = (8, 12)  # bits that cameras and scanners use of 16
MAX_PIXELS = 89_478_485  # Pillow's threshold for a possible decompression bomb

Decode = Callable[[bytes], Image.Image]  # an image file to RGB; raises ValueError for one that is none
# what `to_image` takes
ImageLike = Union[str, os.PathLike[str], bytes, io.BytesIO, Image.Image, np.ndarray, "Tensor"]


def is_image_name(name: str) -> bool:
    """Whether a file's name ends as those of images do."""
    return name.lower().endswith(SUFFIXES)


def needs(suffixes: Iterable[str]) -> str:
    """Return what to install for files of these endings, as the end of a message, or ""."""
    heic = not HEIC and any(suffix in KINDS["HEIF"] for suffix in suffixes)
    return " (for HEIC: pip install 'cocoop[heic]')" if heic else ""


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
        source: a path, the bytes of a file or a file in memory, a Pillow image, an array (h, w), (h, w, 1),
            (h, w, 3) or (h, w, 4), or a tensor (h, w) or (c, h, w) with 1, 3 or 4 channels. Numbers are
            integers from 0 to 255 or floats from 0 to 1.

    Raises:
        CocoopError: a file is missing or unreadable, or pixels are out of range.
        UsageError: something else than an image.
    """
    if isinstance(source, str | os.PathLike):
        try:
            return decode_photo(read_file(Path(source)))
        except UNREADABLE as error:
            raise CocoopError(f"cannot read the image {os.fspath(source)}: {error}") from error
    if isinstance(source, bytes | bytearray | memoryview | io.BytesIO):
        data = source.getvalue() if isinstance(source, io.BytesIO) else bytes(source)
        try:
            return decode_photo(data)
        except ValueError as error:
            raise CocoopError(f"cannot read an image of {len(data):,} bytes: {error}") from error
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
    raise UsageError(
        f"an image is a path, bytes, a Pillow image, an array or a tensor, not {type(source).__name__}"
    )


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
        heic = needs([".heic"]) if data[4:8] == b"ftyp" else ""
        raise ValueError(
            f"it is no image, or not of a kind that is read ({', '.join(FORMATS)}){heic}"
        ) from None
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
    wide = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))  # colours, until they are read
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError(
            "its pixels are floating-point numbers of an unknown range; save it with 8 or 16 bits"
        )
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip to 8
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    elif wide and 0 < max(np.ravel(image.getextrema())) < 1 << DEPTHS[-1] - 8:
        raise ValueError("its colours use 12 bits of 16 or fewer, which would be black; save it with 8 bits")
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")  # large ones are not copied
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Scale 16-bit values by the bits that are in use: 8 or 12 where no value needs more.

    Raises:
        ValueError: they have more than 16 bits, or are negative.
    """
    high = int(pixels.max(initial=0))
    if high > 0xFFFF or pixels.min(initial=0) < 0:
        raise ValueError("its pixels are 32-bit numbers of an unknown range; save it with 8 or 16 bits")
    bits = next((bits for bits in DEPTHS if high < 1 << bits), 16)
    if bits < 16 and high:
        warnings.warn(
            f"an image of 16 bits a pixel has no value above {high}; it is taken for one of {bits} bits",
            UserWarning,
            stacklevel=2,
        )
    return (pixels.astype(np.uint16) >> bits - 8).astype(np.uint8)


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
