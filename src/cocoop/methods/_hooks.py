"""What a method may do beyond making context vectors: every hook is optional, and found by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

# The method's name for a list of t templates -> raw frozen features of the current class names, (t, c, d).
Text = Mapping[str, Tensor]
NO_TEXT: Text = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Output:
    """What a loss is computed from.

    Attributes:
        logits: of every image and class.
        zimg: L2-normalised image features.
        ztxt: L2-normalised text features under the learned prompts; 1 in the first place: for all images.
        text: the frozen text features that the method asked for.
        logit_scale: exp of CLIP's temperature.
    """

    logits: Float[Tensor, "b c"]
    zimg: Float[Tensor, "b d"]
    ztxt: Float[Tensor, "#b c d"]
    text: Text
    logit_scale: float


@runtime_checkable
class WithTexts(Protocol):
    """A method that knows the class names by sentences.

    Attributes:
        texts: templates with `{}` for the class name, by the name under which their features are handed
            over. They are encoded for whatever names are the candidates, so they are no state of the method.
    """

    texts: Mapping[str, tuple[str, ...]]


@runtime_checkable
class WithLoss(Protocol):
    """A method with more than cross-entropy."""

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Return the terms of the loss by name; their sum is minimised."""
        ...


@runtime_checkable
class WithGradientRule(Protocol):
    """A method that combines the gradients of its terms otherwise than by their sum."""

    def combine(self, gradients: Sequence[Tensor]) -> Tensor:
        """Return the gradient of a parameter from those of the terms, in the order of `loss`."""
        ...


@runtime_checkable
class WithLogits(Protocol):
    """A method whose logits are no scaled cosine of its text features."""

    def logits(
        self, zimg: Float[Tensor, "b d"], ztxt: Float[Tensor, "#b c d"], text: Text, logit_scale: float
    ) -> Float[Tensor, "b c"]:
        """Return the logits of normalised image and text features."""
        ...
