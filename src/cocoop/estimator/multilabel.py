"""Scores and thresholds of images that may have several classes or none, and what they are worth.

The score of a class is sigmoid((logit + offset) / temperature + bias): the offsets are those that were
trained with, temperature and bias are Platt's (1999), for all classes alike, fitted to held-out images. A
class is answered where its score reaches its threshold, the one of the highest F1 on these images.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from cocoop.errors import CocoopError, UsageError
from cocoop.estimator.calibration import Answers
from cocoop.training.multilabel import targets
from cocoop.utils.display import some

FEWEST = 10  # held-out images of a class, below which it has the threshold of all classes
UNTUNED = 0.5  # the threshold before any was chosen


class LabelMetrics(BaseModel):
    """What answers of several classes are worth.

    Attributes:
        mean_average_precision: mean over the classes that some image has.
        micro_f1: of all answers; None where no thresholds are known.
        macro_f1: mean over the classes that some image or some answer has; None as above.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean_average_precision: float
    micro_f1: float | None = None
    macro_f1: float | None = None


class LabelResult(BaseModel):
    """A model and zero-shot CLIP on the same images of several classes.

    Attributes:
        name: which images, in words.
        classes: candidates.
        images: images tested.
        zeroshot: of zero-shot CLIP.
        trained: of the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    classes: int
    images: int
    zeroshot: LabelMetrics
    trained: LabelMetrics

    @property
    def worse(self) -> bool:
        """Whether training did harm here."""
        return self.trained.mean_average_precision < self.zeroshot.mean_average_precision


class MultiLabel(BaseModel):
    """How logits become scores and answers.

    Attributes:
        names: the classes of the fit.
        offsets: of their logits.
        temperature: that logits with their offsets are divided by.
        bias: that is added then.
        thresholds: of the classes.
        threshold: of any other name, and of classes of few held-out images.
        images: held-out ones that temperature, bias and thresholds were chosen by; 0 where they were not.
        unknown: those of them that were given as images of none of the classes.
        error_before: expected calibration error of the scores over 15 bins without temperature and bias.
        error_after: with them, every half of the images by the other half.
        results: on images not trained on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: list[str]
    offsets: list[float]
    temperature: float = 1.0
    bias: float = 0.0
    thresholds: list[float]
    threshold: float = UNTUNED
    images: int = 0
    unknown: int = 0
    error_before: float | None = None
    error_after: float | None = None
    results: list[LabelResult] = []

    def offsets_of(self, names: Sequence[str]) -> Float[Tensor, " c"]:
        """Return the offsets of some names; one that was not trained on has the mean of all."""
        known = dict(zip(self.names, self.offsets, strict=True))
        mean = float(np.mean(self.offsets))
        return torch.tensor([known.get(name, mean) for name in names])

    def thresholds_of(self, names: Sequence[str]) -> Float[Tensor, " c"]:
        """Return the thresholds of some names; one that was not trained on has that of all classes."""
        known = dict(zip(self.names, self.thresholds, strict=True))
        return torch.tensor([known.get(name, self.threshold) for name in names])

    def scores(self, logits: Float[Tensor, "n c"], names: Sequence[str]) -> Float[Tensor, "n c"]:
        """Return the scores of some names by their logits, each independent of the others."""
        slope, shift = self.affine(names)
        return torch.sigmoid(slope * logits + shift)

    def affine(self, names: Sequence[str]) -> tuple[float, Float[Tensor, " c"]]:
        """Return what logits are multiplied by, and what is added to those of each name then."""
        return 1 / self.temperature, self.offsets_of(names) / self.temperature + self.bias

    def passing(self, scores: Float[Tensor, "n c"], names: Sequence[str]) -> Bool[Tensor, "n c"]:
        """Return which scores reach their thresholds; an image of which none does is of none of the names."""
        return scores >= self.thresholds_of(names)


def untuned(names: Sequence[str], offsets: Float[Tensor, " c"]) -> MultiLabel:
    """Return the scores that were trained with, and one half as every threshold."""
    return MultiLabel(names=list(names), offsets=offsets.tolist(), thresholds=[UNTUNED] * len(names))


def tuned_by(
    found: MultiLabel, known: Answers, labels: Sequence[Sequence[str]], others: Answers | None
) -> MultiLabel:
    """Do what `tuned` does, with what a model says of held-out images.

    Args:
        found: before.
        known: of images of the classes.
        labels: the classes of each.
        others: of images of none of the classes, beside those among the others that have none.

    Raises:
        UsageError: an image is of a class that was not trained on.
        CocoopError: none of the images has a class, or all have all.
    """
    if strange := sorted({name for each in labels for name in each} - set(found.names)):
        raise UsageError(f"images to calibrate on are of classes without training images: {some(strange)}")
    truth = targets(labels, found.names).bool()
    if others is None:
        return tuned(found, known.logits, truth)
    logits = torch.cat([known.logits, others.logits])
    truth = torch.cat([truth, torch.zeros_like(others.logits, dtype=torch.bool)])
    return tuned(found, logits, truth).model_copy(update={"unknown": len(others.logits)})


def tuned(found: MultiLabel, logits: Float[Tensor, "n c"], truth: Bool[Tensor, "n c"]) -> MultiLabel:
    """Fit temperature, bias and thresholds to held-out images of the classes of the fit.

    Args:
        found: before; its offsets are kept.
        logits: of the images.
        truth: which classes each has; one that has none counts too.

    Raises:
        CocoopError: none of the images has a class, or all have all.
    """
    if truth.all() or not truth.any():
        raise CocoopError("scores are fitted to held-out images of which some have a class, and some not")
    plain = found.model_copy(update={"temperature": 1.0, "bias": 0.0})
    error = calibration_error(plain.scores(logits, found.names), truth)
    apart = torch.empty_like(logits)
    for one, other in halves(len(truth)):
        part = truth[other]
        by = found if part.all() or not part.any() else _platt(found, logits[other], part)
        apart[one] = by.scores(logits[one], found.names)
    scaled = _platt(found, logits, truth)
    scores = scaled.scores(logits, found.names)
    shared = best_threshold(scores.flatten(), truth.flatten())
    thresholds = [
        best_threshold(scores[:, place], truth[:, place]) if truth[:, place].sum() >= FEWEST else shared
        for place in range(truth.shape[1])
    ]
    update = {"thresholds": thresholds, "threshold": shared, "images": len(truth)}
    errors = {"error_before": error, "error_after": calibration_error(apart, truth)}
    return scaled.model_copy(update={**update, **errors})


def cross_tuned(
    found: MultiLabel, logits: Float[Tensor, "n c"], truth: Bool[Tensor, "n c"]
) -> Bool[Tensor, "n c"]:
    """Return the answers for images of which each half has what was chosen by the other half.

    Thresholds that were chosen by the very images would look better than they are.
    """
    answers = torch.empty_like(truth)
    for one, other in halves(len(truth)):
        part = truth[other]
        by = found if part.all() or not part.any() else tuned(found, logits[other], part)
        answers[one] = by.passing(by.scores(logits[one], found.names), found.names)
    return answers


def halves(count: int) -> list[tuple[Tensor, Tensor]]:
    """Return two halves of so many images, drawn with a fixed seed, each before the other."""
    order = torch.as_tensor(np.random.default_rng(0).permutation(count))
    one, two = order[::2], order[1::2]
    return [(one, two), (two, one)]


def best_threshold(scores: Float[Tensor, " n"], truth: Bool[Tensor, " n"]) -> float:
    """Return the threshold of the highest F1, the highest of equals, half way down to the next score."""
    from sklearn.metrics import precision_recall_curve  # here, so that what only predicts does not wait

    precision, recall, values = precision_recall_curve(truth.numpy(), scores.double().numpy())
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    place = len(values) - 1 - int(np.argmax(f1[:-1][::-1]))
    return float((values[place] + values[place - 1]) / 2) if place else float(values[0] / 2)


def measure(
    scores: Float[Tensor, "n c"], truth: Bool[Tensor, "n c"], answers: Bool[Tensor, "n c"] | None
) -> LabelMetrics:
    """Return what scores and answers are worth. Raises CocoopError where no image has a class."""
    from sklearn.metrics import average_precision_score, f1_score

    there = truth.any(0).numpy()
    if not there.any():
        raise CocoopError("none of the test images has a class")
    y, z = truth.numpy(), scores.double().numpy()
    mean = float(average_precision_score(y[:, there], z[:, there], average="macro"))
    if answers is None:
        return LabelMetrics(mean_average_precision=mean)
    kept = there | answers.any(0).numpy()
    f1 = {
        f"{kind}_f1": float(f1_score(y[:, kept], answers.numpy()[:, kept], average=kind, zero_division=0.0))
        for kind in ("micro", "macro")
    }
    return LabelMetrics(mean_average_precision=mean, **f1)


def calibration_error(scores: Float[Tensor, "n c"], truth: Bool[Tensor, "n c"]) -> float:
    """Return the expected calibration error over 15 bins, of the scores of all images and classes."""
    from torchmetrics.functional.classification import binary_calibration_error

    return float(binary_calibration_error(scores.flatten().float(), truth.flatten().int()))


def _platt(found: MultiLabel, logits: Float[Tensor, "n c"], truth: Bool[Tensor, "n c"]) -> MultiLabel:
    """Fit temperature and bias, where the logits tell anything; else only the bias."""
    from sklearn.linear_model import LogisticRegression

    x = (logits + found.offsets_of(found.names)).double().flatten().numpy()
    centre, width = float(x.mean()), float(x.std()) or 1.0
    fit = LogisticRegression(C=1e6).fit(((x - centre) / width)[:, None], truth.flatten().numpy())
    slope, bias = float(fit.coef_[0, 0]) / width, float(fit.intercept_[0])
    if slope <= 0:
        share = float(truth.double().mean())
        return found.model_copy(
            update={"temperature": 1.0, "bias": float(np.log(share / (1 - share))) - centre}
        )
    return found.model_copy(update={"temperature": 1 / slope, "bias": bias - centre * slope})
