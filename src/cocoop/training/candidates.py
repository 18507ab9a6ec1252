"""Which classes a step compares: all of them, or those of its images and a random sample of the others."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cocoop.methods import Method
from cocoop.methods._hooks import (
    WithFit,
    WithGradientRule,
    WithLogits,
    WithLoss,
    WithSearch,
    WithSentences,
)
from cocoop.methods._recipe import Recipe
from cocoop.training.classifier import Classifier
from cocoop.training.samples import Truth

Change = Callable[[Tensor, Tensor], Tensor]  # of logits, (b, k), by the labels of their images


@dataclass(frozen=True)
class Shift:
    """What is added to logits for the classes that a step leaves out.

    Attributes:
        amount: to each of them but that of the image's own class.
        start: the place of the first that it is added to.
    """

    amount: float
    start: int

    def __call__(self, logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b k"]:
        """Return the shifted logits of images of these classes."""
        places = torch.arange(logits.shape[1], device=logits.device)
        others = (places >= self.start) & (places != labels[:, None])
        return torch.where(others, logits + self.amount, logits)


class Candidates(NamedTuple):
    """What a step compares.

    Attributes:
        classifier: over its classes.
        labels: the class of every image of the batch, among these, or a 1 for each of its classes.
        shift: of their logits; None where they are all the classes.
    """

    classifier: Classifier
    labels: Truth
    shift: Change | None = None


def candidates(classifier: Classifier, labels: Truth, recipe: Recipe, seed: int, step: int) -> Candidates:
    """Return what a step compares, a function of the images' classes, the seed and the number of the step.

    With T different classes in the batch and N in all, K - T are drawn of the other N - T, all sets of them
    alike. The shift of POMP (Ren et al., NeurIPS 2023, "local correction") takes the K - 1 that are not an
    image's own for a sample of the N - 1. Where T is 1 they are one, and both shifts are the same. Elsewhere
    the batch's other classes are in every sample: "unbiased" leaves these as they are, and so the sum of the
    exponentials of all shifted logits has that of all N logits as its mean over the draws.
    """
    total, size = len(classifier.class_names), recipe.classes_per_step
    if not 0 < size < total:
        return Candidates(classifier, labels)
    own, among = labels.unique(return_inverse=True)
    classes = torch.cat([own, sample(own.cpu(), total, size - len(own), seed, step).to(own)])
    if recipe.class_correction == "local":
        shift = Shift(math.log((total - 1) / (size - 1)), 0)
    else:
        shift = Shift(math.log((total - len(own)) / (size - len(own))), len(own))
    return Candidates(classifier.among(classes), among, shift)


def sample(own: Int[Tensor, " t"], total: int, count: int, seed: int, step: int) -> Int[Tensor, " count"]:
    """Draw some of the classes that are not among `own`, all sets alike."""
    state = int(np.random.SeedSequence((seed, step, total, count)).generate_state(1)[0])
    order = torch.randperm(total, generator=torch.Generator().manual_seed(state))
    return order[~torch.isin(order, own)][:count]


def needs_all_classes(method: Method) -> str:
    """Say why the steps of a method cannot compare a sample of the classes; nothing where they can."""
    if any(prompt.class_specific for prompt in method.prompts):
        return "its context vectors are of one class each, and a step would leave most as they are"
    if method.facts.bound or isinstance(method, WithLogits | WithFit):
        return "its logits are not CLIP's, for which alone the correction is right"
    if isinstance(method, WithLoss | WithGradientRule | WithSearch):
        return "its loss is not cross-entropy alone, and what is added to that is of all classes"
    if isinstance(method, WithSentences):
        return "it compares with sentences about all classes"
    return ""
