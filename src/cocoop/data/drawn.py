"""Whether images are drawings or photographs, told by looking at a few of them."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from PIL import Image

from cocoop.data.dataset import Dataset
from cocoop.data.decode import open_image, to_image
from cocoop.data.storage import UNREADABLE, read_bytes
from cocoop.errors import CocoopError

LOOKED_AT = 16  # images that tell whether a person's own are photographs
EDGE = 256  # pixels an edge, at which they are looked at
FLAT = 0.15  # share of neighbouring pixels of one colour, below which nothing was drawn
CAMERA = (b"\xff\xd8\xff", b"ftyphei", b"ftypmif")  # how files of JPEG and HEIC begin

T = TypeVar("T")


def are_photographs(data: Dataset) -> bool:
    """Whether half of some images of a dataset look like photographs, or there is none to tell by.

    They are of its training, or of its test where there are none. Unreadable ones do not count.
    """
    items = data.splits.get("train", ()) or data.items("test")
    seen = []
    for item in _some(items):
        try:
            head = read_bytes(data.root, item.path)[:12]
            seen.append(
                any(mark in head for mark in CAMERA)
                or not is_drawn(open_image(data.root, item.path, data.decode))
            )
        except (CocoopError, *UNREADABLE):
            continue
    return sum(seen) * 2 >= len(seen)


def look_photographed(images: Sequence[object]) -> bool:
    """Whether half of some images, of any kind that the estimator takes, look so, or there is none."""
    drawn = [is_drawn(to_image(image)) for image in _some(images)]
    return sum(drawn) * 2 <= len(drawn)


def is_drawn(image: Image.Image) -> bool:
    """Whether an image has areas of one colour, as drawings have; noise and lenses leave none."""
    small = image.convert("RGB")
    small.thumbnail((EDGE, EDGE), Image.Resampling.NEAREST)
    pixels = np.asarray(small).astype(np.int16)
    return bool((pixels[:, 1:] == pixels[:, :-1]).all(2).mean() >= FLAT) if pixels.shape[1] > 1 else True


def _some(images: Sequence[T]) -> Sequence[T]:
    return images[:: max(1, len(images) // LOOKED_AT)][:LOOKED_AT]
