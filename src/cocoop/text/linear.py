"""Text features of conditional prompts, linearised once for a list of names: no text pass per image any more.

Where the context vectors are an affine function of a small hidden vector h, as CoCoOp's are of the Meta-Net's
hidden layer, text features are a smooth function of h alone. They are linearised for the h that images have,
and not at one point: the constant is the mean feature to second order, so that it is right on average, and
the slopes are those of chords as long as the h are spread. This takes 2 r + 1 exact computations for the r
numbers of h, as an image's each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SHORTEST = 0.1  # chord, of the longest: shorter ones would be lost in rounding


@dataclass(frozen=True, eq=False)
class Expansion:
    """The text features of one list of names, as an affine function of a hidden vector.

    Attributes:
        center: the mean hidden vector, that they are expanded around.
        terms: of every class the mean feature, and behind it the slopes along the r hidden numbers.
    """

    center: Float[Tensor, " r"]
    terms: Float[Tensor, "c d r1"]

    def features(self, hidden: Float[Tensor, "b r"]) -> Float[Tensor, "b c d"]:
        """Return the linear text features under hidden vectors."""
        return torch.einsum("cdr,br->bcd", self.terms, self._offset(hidden))

    def cosine(self, zimg: Float[Tensor, "b d"], hidden: Float[Tensor, "b r"]) -> Float[Tensor, "b c"]:
        """Return the cosine of image features, of unit length, and the classes' text features.

        No text feature of an image is ever there: its product with an image feature is one of matrices, and
        its squared length a quadratic form of r + 1 numbers a class.
        """
        offset = self._offset(hidden)
        along = _outer(zimg, offset) @ self.terms.flatten(1).T
        squared = _outer(offset, offset) @ self._gram.flatten(1).T
        return along * squared.clamp(min=torch.finfo(squared.dtype).tiny).rsqrt()

    def _offset(self, hidden: Float[Tensor, "b r"]) -> Float[Tensor, "b r1"]:
        return F.pad(hidden - self.center, (1, 0), value=1.0)

    @cached_property
    def _gram(self) -> Float[Tensor, "c r1 r1"]:
        return self.terms.mT @ self.terms


def expansion_bytes(classes: int, width: int, hidden: int) -> int:
    """Return the bytes of an expansion of text features of `width` numbers, around `hidden` of them."""
    return 4 * classes * (width * (hidden + 1) + (hidden + 1) ** 2)


@torch.no_grad()
def expand(
    features: Callable[[Float[Tensor, "b r"]], Float[Tensor, "b c d"]],
    center: Float[Tensor, " r"],
    spread: Float[Tensor, " r"],
) -> Expansion:
    """Linearise text features as a function of hidden vectors.

    Args:
        features: the function; in fp32, as small differences matter.
        center: the mean of the hidden vectors.
        spread: their standard deviation.
    """
    longest = spread.max() if spread.any() else center.abs().max().clamp(min=1.0)
    steps = spread.clamp(min=float(SHORTEST * longest))
    middle = features(center[None])[0]
    terms = middle.new_empty(*middle.shape, len(center) + 1)
    terms[..., 0] = middle
    for index, step in enumerate(steps.tolist()):
        chord = torch.zeros_like(center)
        chord[index] = step
        ahead, behind = features(torch.stack([center + chord, center - chord]))
        terms[..., index + 1] = (ahead - behind) / (2 * step)
        terms[..., 0] += (float(spread[index]) / step) ** 2 * ((ahead + behind) / 2 - middle)
    return Expansion(center, terms)


def _outer(a: Float[Tensor, "b n"], b: Float[Tensor, "b k"]) -> Float[Tensor, "b nk"]:
    return (a[:, :, None] * b[:, None]).flatten(1)
