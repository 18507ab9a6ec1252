"""Several classes an image, or none: a yes or no for each class, and the loss that this is learned by.

The score of a class is sigmoid(logit + offset), and what is minimised is its binary cross-entropy, summed
over the classes. With CLIP's logits, the logit scale times the cosine, it is the sigmoid loss of SigLIP (Zhai
et al., ICCV 2023), whose bias is one for all pairs. Here every class has its own: an image's cosines with the
texts of two classes differ by more than those of two images with one text. Softmax, which makes the scores of
an image add up to 1, would only compare the classes of one image with each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocoop.methods._facts import Facts
from cocoop.methods._hooks import WithFit, WithGradientRule, WithLoss, WithSearch
from cocoop.methods._recipe import Recipe

WIDEST = 50.0  # how far beyond all logits an offset may lie
HALVINGS = 64  # of that interval


@dataclass(frozen=True)
class Offsets:
    """What is added to the logits of the classes.

    Attributes:
        values: one a class.
    """

    values: Float[Tensor, " c"]

    def __call__(self, logits: Float[Tensor, "b c"], labels: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        """Return the logits with their offsets, whatever the labels."""
        return logits + self.values.to(logits)


def targets(labels: Sequence[Sequence[str]], names: Sequence[str]) -> Float[Tensor, "n c"]:
    """Return a 1 for every class that an image has, and 0 for the others."""
    place = {name: index for index, name in enumerate(names)}
    truth = torch.zeros(len(labels), len(names))
    for row, each in enumerate(labels):
        truth[row, [place[name] for name in each]] = 1
    return truth


def loss(logits: Float[Tensor, "b c"], truth: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Return the binary cross-entropy of all classes, the mean over the images."""
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / max(1, len(truth))


def offsets_of(logits: Float[Tensor, "n c"], truth: Float[Tensor, "n c"]) -> Float[Tensor, " c"]:
    """Return the offsets with which the mean score of a class is the share of the images that have it.

    Half an image is added to both sides, so that a class of all images or none has one too. There is one
    solution, as the mean rises with the offset; it is found by halving an interval.
    """
    z, share = logits.double(), (truth.double().sum(0) + 0.5) / (len(truth) + 1)
    low, high = -z.amax(0) - WIDEST, -z.amin(0) + WIDEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        less = torch.sigmoid(z + middle).mean(0) < share
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    return ((low + high) / 2).float()


def refusal(method: type, facts: Facts, recipe: Recipe | None) -> str:
    """Say why a method cannot be fitted to images of several classes; nothing where it can."""
    if facts.sees_test_images:
        return f"it adapts itself to {facts.adaptation}, by which one class an image is likely"
    if issubclass(method, WithLoss | WithGradientRule):
        return "its own loss is of one class an image"
    if issubclass(method, WithSearch):
        return "its search compares answers of one class an image"
    if issubclass(method, WithFit):
        return "it is computed in closed form, from images of one class each"
    if facts.selects_on != "nothing" or (recipe and recipe.keep == "best"):
        return "it is selected on validation images by the accuracy of one class an image"
    if recipe and recipe.classes_per_step:
        return "classes_per_step corrects a softmax, and here each class is scored alone"
    return ""
