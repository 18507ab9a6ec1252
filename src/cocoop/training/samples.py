"""What a method is fitted to: views of the training images, and images that it may select on."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cocoop.data.live import Live
from cocoop.methods._facts import Selection
from cocoop.methods._hooks import Sentences

# epoch -> features of that epoch's augmented views, or what they are at the cut of the image tower
Views = Callable[[int], Float[Tensor, "n *l d"] | Live]
Truth = Int[Tensor, " t"] | Float[Tensor, "t c"]  # the class of each image, or a 1 for each of its classes
Validation = tuple[Float[Tensor, "m *l d"], Int[Tensor, " m"]]  # features and classes


def no_validation(selection: Selection) -> Validation:
    """Return no images: there are none to select on."""
    return torch.empty(0, 0), torch.empty(0, dtype=torch.long)


@dataclass(frozen=True)
class Samples:
    """Labelled image features, as the image tower gives them.

    Attributes:
        views: those of each epoch.
        labels: class of every image; or where it may have several or none, a 1 for each that it has.
        validation: test views of the images that a method may select on, by what it asks for.
        plain: gives the test views of the training images; None where there are none.
        offsets: of the logits of the classes, where an image may have several.
    """

    views: Views
    labels: Truth
    validation: Callable[[Selection], Validation] = no_validation
    plain: Callable[[], Float[Tensor, "n *l d"]] | None = None
    offsets: Float[Tensor, " c"] | None = None

    @property
    def shots(self) -> int:
        """Images of a class, the most where classes differ."""
        if self.labels.is_floating_point():
            return int(self.labels.sum(0).amax())
        return shots_of(self.labels.tolist())


def shots_of(labels: Iterable[Hashable]) -> int:
    """Return how many images of a class there are, the most where classes differ; 0 of none."""
    return max(Counter(labels).values(), default=0)


def of_sentences(
    sentences: Mapping[str, Sentences], validation: Callable[[Selection], Validation]
) -> Samples:
    """Return sentences in place of images, for a method that learns from them alone."""
    features = torch.cat([each.features for each in sentences.values()])
    labels = torch.cat([each.labels for each in sentences.values()])
    return Samples(lambda epoch: features, labels, validation)
