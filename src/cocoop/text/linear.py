"""Text features of conditional prompts, expanded once around one image's: no text pass per image any more.

Where the context vectors are an affine function of a small hidden vector h, as CoCoOp's are of the Meta-Net's
hidden layer, text features are a smooth function of h alone, t_c(h) ≈ t_c(h₀) + J_c (h - h₀). The Jacobian
takes one forward-mode product an entry of h through the token tree: backward products would be one an entry
of every class's feature.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from cocoop.text.encoder import TextEncoder


@dataclass(frozen=True, eq=False)
class Expansion:
    """The text features of one list of names, as an affine function of a hidden vector.

    Attributes:
        center: h₀, the hidden vector they are expanded around.
        terms: of every class its feature at `center`, and behind it the r columns of its Jacobian.
    """

    center: Float[Tensor, " r"]
    terms: Float[Tensor, "c d r1"]

    def features(self, hidden: Float[Tensor, "b r"]) -> Float[Tensor, "b c d"]:
        """Return the text features under hidden vectors, to first order."""
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

    def to(self, device: torch.device) -> "Expansion":
        """Return the same on another device."""
        return Expansion(self.center.to(device), self.terms.to(device))

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
    encoder: TextEncoder,
    from_hidden: Callable[[Float[Tensor, "b r"]], Float[Tensor, "b 1 m w"]],
    center: Float[Tensor, " r"],
) -> Expansion:
    """Expand the text features of an encoder's names around one hidden vector.

    Args:
        encoder: of the names; in fp32, as small differences matter.
        from_hidden: hidden vectors to contexts, an affine function.
        center: h₀.

    Raises:
        UsageError: the budget of the encoder is too small.
    """
    base = from_hidden(center[None])
    directions = from_hidden(center + torch.eye(len(center)).to(center)) - base
    columns: dict[int, list[Tensor]] = {}
    # the fused kernels have no forward-mode product; torch warns of itself where it loads others
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for piece in encoder.pieces(len(directions)):
            push = partial(_push, piece.run, base)
            terms = torch.cat([piece.run(base), vmap(push, chunk_size=piece.rows)(directions)[:, 0]])
            for label, term in zip(piece.classes, terms.movedim(0, -1), strict=True):
                columns.setdefault(label, []).append(term)
    each = [torch.stack(columns[label]).mean(0) for label in range(len(columns))]  # mean over an ensemble
    return Expansion(center, torch.stack(each))


def _push(
    run: Callable[[Tensor], Tensor], base: Float[Tensor, "1 1 m w"], direction: Float[Tensor, "1 m w"]
) -> Float[Tensor, "1 c d"]:
    """Return the derivative of text features along a direction of the contexts."""
    return jvp(run, (base,), (direction[None],))[1]


def _outer(a: Float[Tensor, "b n"], b: Float[Tensor, "b k"]) -> Float[Tensor, "b nk"]:
    return (a[:, :, None] * b[:, None]).flatten(1)
