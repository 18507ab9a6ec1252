"""RandAugment (Cubuk et al., NeurIPS 2020): an image altered twice, as Dassl does it."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

COUNT = 2  # alterations in a row
STRENGTH = 10 / 30  # of each, as a share of its range
EDGE = 224  # pixels, of the images that lengths are meant for
GREY = (125, 123, 114)  # of what is cut out

Alteration = Callable[[Image.Image, np.random.Generator], Image.Image]


def randaugment(image: Image.Image, seed: int) -> Image.Image:
    """Return an image altered twice, by alterations drawn from `seed`; one may be drawn twice.

    Args:
        image: an RGB image of the size that a backbone takes.
        seed: of the alterations, and of their directions and places.
    """
    drawn = np.random.default_rng(seed)
    for place in drawn.integers(len(ALTERATIONS), size=COUNT):
        image = ALTERATIONS[place](image, drawn)
    return image


def _sign(drawn: np.random.Generator) -> int:
    return -1 if drawn.uniform() > 0.5 else 1


def _moved(image: Image.Image, *affine: float | int) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, affine)


def _brightened(image: Image.Image) -> Image.Image:
    """Return an image with all values higher, whose light ones are then inverted."""
    return ImageOps.solarize(image.point(lambda value: min(255, int(value + 110 * STRENGTH))), 128)


def _cut_out(image: Image.Image, drawn: np.random.Generator) -> Image.Image:
    """Return an image with a grey rectangle somewhere on it."""
    size = 40 * STRENGTH * image.width / EDGE
    left, top = (int(max(0, drawn.uniform(0, edge) - size / 2)) for edge in image.size)
    right, bottom = min(image.width, left + size), min(image.height, top + size)
    image = image.copy()
    ImageDraw.Draw(image).rectangle((left, top, right, bottom), GREY)
    return image


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Alteration:
    return lambda image, drawn: kind(image).enhance(0.1 + 1.8 * STRENGTH)


ALTERATIONS: tuple[Alteration, ...] = (
    lambda image, drawn: ImageOps.autocontrast(image),
    lambda image, drawn: ImageOps.equalize(image),
    lambda image, drawn: ImageOps.invert(image),
    lambda image, drawn: image.rotate(_sign(drawn) * 30 * STRENGTH),
    lambda image, drawn: ImageOps.posterize(image, int(4 + 4 * STRENGTH)),
    lambda image, drawn: ImageOps.solarize(image, math.ceil(256 * STRENGTH)),
    lambda image, drawn: _brightened(image),
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    lambda image, drawn: _moved(image, 1, _sign(drawn) * 0.3 * STRENGTH, 0, 0, 1, 0),
    lambda image, drawn: _moved(image, 1, 0, 0, _sign(drawn) * 0.3 * STRENGTH, 1, 0),
    _cut_out,
    lambda image, drawn: _moved(image, 1, 0, _sign(drawn) * 100 * STRENGTH * image.width / EDGE, 0, 1, 0),
    lambda image, drawn: _moved(image, 1, 0, 0, 0, 1, _sign(drawn) * 100 * STRENGTH * image.height / EDGE),
)
