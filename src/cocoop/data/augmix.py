"""AugMix (Hendrycks et al., ICLR 2020): an image mixed with altered copies of itself, as TPT does it."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

CHAINS = 3  # of altered copies
LONGEST = 3  # alterations in a row
WEAKEST, STRONGEST = 0.1, 1.0  # of an alteration, on a scale to 10

Pixels = Callable[[Image.Image], Tensor]
Alteration = Callable[[Image.Image, float, int], Image.Image]  # image, strength from 0 to 1, sign


def augmix(image: Image.Image, pixels: Pixels, seed: int) -> Float[Tensor, "3 s s"]:
    """Return an image mixed with three altered copies of it, by weights drawn from `seed`.

    Args:
        image: a square one.
        pixels: makes the tensor that a backbone takes; images are mixed as such.
        seed: of the alterations and weights.
    """
    drawn = np.random.default_rng(seed)
    weights, own = drawn.dirichlet(np.ones(CHAINS)).tolist(), float(drawn.beta(1.0, 1.0))
    mixed = own * pixels(image)
    for weight in weights:
        mixed = mixed + (1 - own) * weight * pixels(_altered(image, drawn))
    return mixed


def _altered(image: Image.Image, drawn: np.random.Generator) -> Image.Image:
    for _ in range(drawn.integers(1, LONGEST + 1)):
        alter = ALTERATIONS[drawn.integers(len(ALTERATIONS))]
        strength = drawn.uniform(WEAKEST, STRONGEST) / 10
        image = alter(image, strength, -1 if drawn.uniform() > 0.5 else 1)
    return image


def _moved(image: Image.Image, *affine: float | int) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)


ALTERATIONS: tuple[Alteration, ...] = (
    lambda image, strength, sign: ImageOps.autocontrast(image),
    lambda image, strength, sign: ImageOps.equalize(image),
    lambda image, strength, sign: ImageOps.posterize(image, 4 - int(4 * strength)),
    lambda image, strength, sign: image.rotate(sign * int(30 * strength), Image.Resampling.BILINEAR),
    lambda image, strength, sign: ImageOps.solarize(image, 256 - int(256 * strength)),
    lambda image, strength, sign: _moved(image, 1, sign * 0.3 * strength, 0, 0, 1, 0),
    lambda image, strength, sign: _moved(image, 1, 0, 0, sign * 0.3 * strength, 1, 0),
    lambda image, strength, sign: _moved(image, 1, 0, sign * int(image.width / 3 * strength), 0, 1, 0),
    lambda image, strength, sign: _moved(image, 1, 0, 0, 0, 1, sign * int(image.width / 3 * strength)),
)
