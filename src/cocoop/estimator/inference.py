"""A trained method asked about images: logits, cosines, probabilities, among its own names or any others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import AUTO
from cocoop.backbones.features import encode_images, encode_views
from cocoop.errors import UsageError
from cocoop.estimator.calibration import Answers
from cocoop.estimator.card import ModelInfo
from cocoop.estimator.inputs import Classes, Images, check_distinct, listed, texts
from cocoop.methods import Method
from cocoop.methods._hooks import views_of
from cocoop.training.classifier import Classifier
from cocoop.training.image import encoder_of
from cocoop.training.modes import TestingMode, checked_mode
from cocoop.training.screening import Predictor, predictor, quickest
from cocoop.training.test_time import in_turn, plain_views
from cocoop.utils.files import default_cache


@dataclass
class Kept:
    """The classifier that was asked for last, as texts are encoded once for a list of names.

    Attributes:
        classifier: the last one.
        phrases: what its candidates are called.
        predictors: of it, by how logits are computed.
    """

    classifier: Classifier | None = None
    phrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    predictors: dict[TestingMode, Predictor] = field(default_factory=dict)


@dataclass(frozen=True)
class Inference:
    """A trained method, and how it is to be asked.

    Attributes:
        backbone: the frozen CLIP.
        method: trained.
        info: what is known of it.
        kept: from one question to the next.
        seed: of the views of test images.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        testing: how logits are computed; see `PromptClassifier`.
    """

    backbone: Backbone
    method: Method
    info: ModelInfo
    kept: Kept
    seed: int
    memory_budget: int | None
    testing: str

    def classifier(self, classes: Classes | None = None) -> Classifier:
        """Return the `Classifier` over `classes` or those of the fit; the last one is kept.

        Raises:
            UsageError: there are no classes, or others are asked of vectors that belong to theirs.
        """
        names = tuple(self.info.prompt.class_names if classes is None else texts(classes))
        check_distinct(names)
        phrases, kept = self._phrases(names, classes), self.kept
        if classes is None and not names:
            raise UsageError(
                "this model has no class names of its own; give some: classes=[...], or --classes"
            )
        if kept.classifier is None or kept.classifier.class_names != names or kept.phrases != phrases:
            trained, budget = self.info.prompt.class_names, self.memory_budget
            kept.classifier = Classifier(self.backbone, self.method, names, budget, trained, phrases)
            kept.phrases, kept.predictors = phrases, {}
        return kept.classifier

    def _phrases(self, names: Sequence[str], classes: Classes | None) -> dict[str, tuple[str, ...]]:
        """Return what candidates are called: as `classes` says, else as at the fit, else by their names."""
        given = {**self.info.prompt.phrases, **(classes if isinstance(classes, Mapping) else {})}
        each = {name: (words,) if isinstance(words, str) else tuple(words) for name, words in given.items()}
        return {name: each[name] for name in names if name in each and each[name] != (name,)}

    def testing_mode(self, images: int, classes: Classes | None = None) -> TestingMode:
        """Return how the logits of so many images are computed."""
        several = self.info.multilabel is not None
        if several and self.testing == "screened":
            raise UsageError(
                "screened, only the likeliest classes would be exact; test several exactly or linear"
            )
        if self.testing != AUTO or several:
            return "exact" if self.testing == AUTO else checked_mode(self.testing)
        return quickest(self.classifier(classes), images)

    def predictor(self, features: Float[Tensor, "n d"], classes: Classes | None = None) -> Predictor:
        """Return what computes the logits of image features as `testing` says; the last ones are kept.

        Raises:
            UsageError: the method can only be tested exactly.
        """
        mode, classifier = self.testing_mode(len(features), classes), self.classifier(classes)
        if mode not in self.kept.predictors:
            cache = FeatureCache(default_cache())
            made = predictor(classifier, mode, features, self.info.hidden, cache)
            self.kept.predictors[mode] = made
        return self.kept.predictors[mode]

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b kd"]:
        """Encode pixels with all that is learned in the image tower."""
        return encoder_of(self.backbone, self.method)(pixels)

    def looks(self, images: Images, classes: Classes | None = None) -> Float[Tensor, "n *v d"]:
        """Encode what the method looks at to answer: test views, or several views of every image."""
        looks = views_of(self.classifier(classes).method)
        each = listed(images)
        if looks.count == 1 or not len(each):
            return encode_images(self.backbone, each, encode=self.encode)
        views = looks.of(self.seed, 1)
        return torch.cat([encode_views(self.backbone, [image], views, encode=self.encode) for image in each])

    def logits(
        self, features: Float[Tensor, "n *v d"], classes: Classes | None = None
    ) -> Float[Tensor, "n c"]:
        """Return the logits of image features, or of the features of all views that the method looks at."""
        return in_turn(self.predictor(plain_views(features), classes), features)

    def answers(self, features: Float[Tensor, "n *v d"], classes: Classes | None = None) -> Answers:
        """Return logits and cosines of image features, computed as `testing` says."""
        plain = plain_views(features)
        logits, cosines = self.predictor(plain, classes).similarities(plain)
        adapts = self.method.facts.sees_test_images
        return Answers(self.logits(features, classes) if adapts else logits, cosines)

    def probabilities(
        self, features: Float[Tensor, "n *v d"], classes: Classes | None = None
    ) -> Float[Tensor, "n c"]:
        """Return the calibrated probabilities of image features; of several classes an image the scores."""
        return self.shares(self.logits(features, classes), self.classifier(classes).class_names)

    def shares(self, logits: Float[Tensor, "n c"], names: Sequence[str]) -> Float[Tensor, "n c"]:
        """Return the calibrated probabilities of some names, or the score of each, which is its own."""
        several = self.info.multilabel
        return several.scores(logits, names) if several else (logits / self.temperature).softmax(1)

    def passing(
        self, answers: Answers, names: Sequence[str], least: float | None = None
    ) -> Bool[Tensor, "n c"]:
        """Return which of some names images have, where they may have several: those of high scores.

        Args:
            answers: of the images.
            names: the candidates.
            least: the score from which on; None for the threshold of each.
        """
        several = self.info.multilabel
        assert several
        scores = several.scores(answers.logits, names)
        return several.passing(scores, names) if least is None else scores >= least

    def named(
        self, answers: Answers, names: Sequence[str], least: float | None = None
    ) -> list[tuple[str, ...]]:
        """Return the names that `passing` tells of each image, those of the highest scores first."""
        scores, has = self.shares(answers.logits, names), self.passing(answers, names, least)
        rows = zip(scores.argsort(1, descending=True).tolist(), has.tolist(), strict=True)
        return [tuple(names[place] for place in order if row[place]) for order, row in rows]

    def sure_of(self, answers: Answers, names: Sequence[str]) -> Bool[Tensor, " n"] | None:
        """Return which answers among some names reach the threshold; None where there is none for these.

        Of several classes an image, they are sure where one is answered at least.
        """
        if self.info.multilabel:
            return self.passing(answers, names).any(1)
        limit = self.info.unknown
        if limit is None or limit.names != list(names):
            return None
        return answers.score(limit.score, self.temperature) >= limit.value

    def names(self, answers: Answers, among: Sequence[str], unknown: str | None = None) -> np.ndarray:
        """Return the likeliest of some names for each answer, or `unknown` below the threshold.

        Of several classes an image, return a tuple of those that it has.

        Raises:
            UsageError: `unknown` is given and there is no threshold for these names.
        """
        if self.info.multilabel:
            none = () if unknown is None else (unknown,)
            found = np.empty(len(answers.logits), dtype=object)
            for place, each in enumerate(self.named(answers, among)):
                found[place] = each or none
            return found
        likeliest = np.array(among)[answers.logits.argmax(1).numpy()]
        if unknown is None:
            return likeliest
        sure = self.sure_of(answers, among)
        if sure is None:
            raise UsageError(
                "there is no threshold for images of none of these classes; fit with cocoop fit, or call "
                "calibrate with held-out images, and ask for the classes of the fit"
            )
        return np.where(sure.numpy(), likeliest, unknown)

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become probabilities."""
        return self.info.calibration.temperature if self.info.calibration else 1.0
