"""How far a probability can be trusted, and from where on an image is of no class: from held-out images.

The temperature follows Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2. The
scores for unknown images are the maximum softmax of Hendrycks and Gimpel (ICLR 2017), the energy of Liu et
al. (NeurIPS 2020, equation 4), and the cosine of image and nearest class text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn.functional import cross_entropy

from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import some

Score = Literal["confidence", "energy", "similarity"]
SCORES: tuple[Score, ...] = ("confidence", "energy", "similarity")
FEWEST = 20  # held-out images, below which nothing is calibrated
SURE = 0.95  # share of the images of known classes that get an answer
BOUNDS = (0.05, 20.0)  # of a temperature
SPREAD = 0.5  # standard deviation of its logarithm before any image was seen
ROUNDS = 10  # random halves of the classes whose names are taken away
FEWEST_CLASSES = 4  # that such halves are made of


class Calibration(BaseModel):
    """A temperature, and what it is worth.

    Attributes:
        temperature: that logits are divided by.
        images: held-out images it is fitted to.
        before: expected calibration error over 15 bins without it.
        after: with it, every half of the images with the temperature of the other half.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float
    images: int
    before: float
    after: float


class Separation(BaseModel):
    """How well a score tells images of known classes from others.

    Attributes:
        auroc: area under the ROC curve; 0.5 is chance.
        fpr: share of the others that still get an answer where 95 percent of the known do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    auroc: float
    fpr: float


class Threshold(BaseModel):
    """From where on an answer is given.

    Attributes:
        score: what is compared with the value; the one of the highest AUROC.
        value: below it, an image is of no class.
        separations: of every score on the images it was chosen by; empty where there were none.
        others: which these images were, in words.
        names: the candidates it holds for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    score: Score
    value: float
    separations: dict[str, Separation]
    others: str
    names: list[str]


@dataclass(frozen=True)
class Answers:
    """What a model says of some images: logits, and cosines of image and class texts.

    Attributes:
        logits: of every candidate.
        cosines: of image and text.
    """

    logits: Float[Tensor, "n c"]
    cosines: Float[Tensor, "n c"]

    def score(self, score: Score, temperature: float = 1.0) -> Float[Tensor, " n"]:
        """Return how much images look like one of the classes: the higher, the more."""
        if score == "confidence":
            return (self.logits.double() / temperature).softmax(1).amax(1)
        if score == "energy":
            return self.logits.double().logsumexp(1)
        return self.cosines.double().amax(1)

    def among(self, columns: Int[Tensor, " k"], rows: Bool[Tensor, " n"]) -> "Answers":
        """Return what it would say of some of the images among some of the candidates."""
        return Answers(self.logits[rows][:, columns], self.cosines[rows][:, columns])


def calibrate_answers(
    known: Answers, labels: Sequence[str], names: Sequence[str], others: Answers | None, source: str
) -> tuple[Calibration, Threshold]:
    """Fit the temperature and the threshold of a model to what it says of held-out images.

    Args:
        known: of images of the classes.
        labels: the class name of each.
        names: of the classes.
        others: of images of none of them, if there are any.
        source: which these are, in words.

    Raises:
        UsageError: an image is of another class.
    """
    if strange := sorted(set(labels) - set(names)):
        raise UsageError(f"images to calibrate on are of classes without training images: {some(strange)}")
    truth = torch.tensor([names.index(label) for label in labels])
    found = calibrate(known.logits, truth)
    return found, choose_threshold(known, truth, names, found.temperature, others, source)


def calibrate(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Calibration:
    """Fit a temperature to held-out images, and measure it on halves that it was not fitted to.

    It is 1 where those halves have no lower cross-entropy with it.

    Raises:
        CocoopError: there are no images or one class alone.
    """
    if not len(labels) or logits.shape[1] < 2:
        raise CocoopError("a temperature is fitted to held-out images of two or more classes")
    order = torch.as_tensor(np.random.default_rng(0).permutation(len(labels)))
    halves = order[::2], order[1::2]
    scaled = logits.double().clone()
    for one, other in (halves, halves[::-1]) if len(labels) > 1 else ():
        scaled[one] = scaled[one] / temperature_of(logits[other], labels[other])
    before = calibration_error(logits.double().softmax(1), labels)
    if cross_entropy(scaled, labels) >= cross_entropy(logits.double(), labels):
        return Calibration(temperature=1.0, images=len(labels), before=before, after=before)
    after = calibration_error(scaled.softmax(1), labels)
    temperature = temperature_of(logits, labels)
    return Calibration(temperature=temperature, images=len(labels), before=before, after=after)


def temperature_of(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> float:
    """Return the likeliest temperature, where its logarithm is expected to be about 0.

    Without that expectation, images that are all right would make every answer certain.
    """
    from scipy.optimize import minimize_scalar  # here and below, so that what only predicts does not wait

    z = logits.double()

    def loss(log: float) -> float:
        expected = log**2 / (2 * SPREAD**2 * len(labels))
        return float(cross_entropy(z / math.exp(log), labels)) + expected

    bounds = math.log(BOUNDS[0]), math.log(BOUNDS[1])
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def calibration_error(probabilities: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> float:
    """Return the expected calibration error over 15 bins of confidence."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    return float(multiclass_calibration_error(probabilities.float(), labels, probabilities.shape[1]))


def separation(known: Float[Tensor, " n"], others: Float[Tensor, " m"]) -> Separation:
    """Return how well a score that is higher for known images tells them from others."""
    from sklearn.metrics import roc_auc_score

    truth = np.concatenate([np.ones(len(known)), np.zeros(len(others))])
    value = threshold_of(known)
    return Separation(
        auroc=float(roc_auc_score(truth, torch.cat([known, others]).numpy())),
        fpr=float((others >= value).double().mean()),
    )


def threshold_of(known: Float[Tensor, " n"]) -> float:
    """Return the highest value that 95 percent of the known images reach."""
    return float(np.quantile(known.numpy(), 1 - SURE, method="lower"))


def choose_threshold(
    known: Answers,
    labels: Int[Tensor, " n"],
    names: Sequence[str],
    temperature: float,
    others: Answers | None = None,
    source: str = "",
) -> Threshold:
    """Choose the score that tells unknown images best, and its value.

    Args:
        known: of held-out images of the classes.
        labels: their classes.
        names: of the classes.
        temperature: of the probabilities.
        others: of images of none of the classes; None takes the names of half the classes away at random, so
            that their images are of none, several times.
        source: which those are, in words.
    """
    found: Mapping[Score, Separation]
    if others is not None:
        found = {s: separation(known.score(s, temperature), others.score(s, temperature)) for s in SCORES}
    else:
        found, source = (
            _halves(known, labels, temperature),
            "held-out images with the names of their classes taken away",
        )
    best: Score = max(SCORES, key=lambda score: found[score].auroc) if found else SCORES[0]
    return Threshold(
        score=best,
        value=threshold_of(known.score(best, temperature)),
        separations={str(score): each for score, each in found.items()},
        others=source if found else "",
        names=list(names),
    )


def _halves(known: Answers, labels: Int[Tensor, " n"], temperature: float) -> Mapping[Score, Separation]:
    """Return the mean separations over random halves of the classes; none where the classes are too few."""
    classes = torch.unique(labels)
    if len(classes) < FEWEST_CLASSES:
        return {}
    rng = np.random.default_rng(0)
    rounds: dict[Score, list[Separation]] = {score: [] for score in SCORES}
    for _ in range(ROUNDS):
        kept = classes[torch.as_tensor(rng.permutation(len(classes))[: len(classes) // 2])]
        inside = torch.isin(labels, kept)
        one, two = known.among(kept, inside), known.among(kept, ~inside)
        for score, found in rounds.items():
            found.append(separation(one.score(score, temperature), two.score(score, temperature)))
    return {
        score: Separation(
            auroc=float(np.mean([each.auroc for each in found])),
            fpr=float(np.mean([each.fpr for each in found])),
        )
        for score, found in rounds.items()
    }
