"""A person's own images: whatever a camera, a phone or a drawing program wrote, as RGB the right way up.

Benchmark images are decoded by `images.decode`, as the published numbers were made. Own images are turned as
their EXIF orientation says, laid on white where they are transparent, and scaled where they have 16 bits a
pixel. Of an animation the first frame counts. An image of too many pixels is refused before it is decoded.
"""

import os
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from cocoop.data.images import FORMATS, MAX_PIXELS, UNREADABLE, check_pixels, opened, read_file
from cocoop.errors import CocoopError, UsageError

__all__ = ["EXTENSIONS", "FORMATS", "MAX_PIXELS", "ImageLike", "as_rgb", "decode_photo", "to_image"]

EXTENSIONS = (
    ".avif",
    ".bmp",
    ".gif",
    ".jp2",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor


def decode_photo(data: bytes) -> Image.Image:
    """Decode an image file as RGB. Raises ValueError for one that is damaged or refused."""
    with opened(data) as image:
        return as_rgb(image)


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image upright, on white, with 8 bits a channel. Raises ValueError where that has no sense."""
    check_pixels(image)
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


def to_image(source: object) -> Image.Image:
    """Return one image as RGB.

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
            return as_rgb(source)
        except Exception as error:  # it may be decoded only now
            raise CocoopError(f"cannot use an image of mode {source.mode}: {error}") from error
    if isinstance(source, Tensor):
        array = source.detach().cpu().numpy()
        return _from_array(np.moveaxis(array, 0, -1) if array.ndim == 3 else array)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    raise UsageError(f"an image is a path, a Pillow image, an array or a tensor, not {type(source).__name__}")


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
    return as_rgb(Image.fromarray(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values))
