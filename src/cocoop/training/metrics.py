"""Logits and labels to named values; counts stay integers, rounding is for whoever prints."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cocoop.errors import CocoopError


def accuracy(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> float:
    """Return the share of images whose highest logit is that of their class."""
    return float((logits.argmax(1) == labels).double().mean())


def evaluate(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Iterator[tuple[str, float | int]]:
    """Yield (name, value) pairs: correct, total, accuracy, macro F1 and calibration error.

    Accuracy is correct / total over all images, as in the paper, and not a mean over classes. The
    calibration error is the expected one over 15 bins of confidence.

    Raises:
        CocoopError: there are no images.
    """
    # imported here: with it comes scipy's signal processing, which a fit or a prediction need not wait for
    from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score

    if not len(labels):
        raise CocoopError("there are no test images; check the dataset's split and the class subset")
    classes = logits.shape[1]
    correct = int((logits.argmax(1) == labels).sum())
    yield "correct", correct
    yield "total", len(labels)
    yield "accuracy", correct / len(labels)
    if classes > 1:
        yield "macro_f1", multiclass_f1_score(logits, labels, classes, average="macro").item()
        probabilities = torch.softmax(logits, dim=1)
        yield "calibration_error", multiclass_calibration_error(probabilities, labels, classes).item()
