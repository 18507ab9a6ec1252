"""Classifiers with scikit-learn's conventions: fit on images and names, predict with the same or other names.

Composition over the methods, the training loop and the features. scikit-learn itself is not needed; where it
is installed, `clone`, `cross_val_score` and the like take these objects.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.clip import EMBEDDED, Backbone
from cocoop.backbones.device import AUTO
from cocoop.backbones.features import encode_images, encode_views
from cocoop.data.own.source import TEMPLATE
from cocoop.data.views import training_view
from cocoop.errors import UsageError, unknown
from cocoop.estimator.backbone import backbone_name, shared_backbone, warn_unnamed
from cocoop.estimator.calibration import Answers, calibrate, choose_threshold
from cocoop.estimator.card import ModelInfo, Result
from cocoop.estimator.folder import write_model
from cocoop.estimator.inputs import (
    Classes,
    Images,
    Names,
    NotFittedError,
    check_distinct,
    check_pairs,
    labels_of,
    listed,
    texts,
)
from cocoop.estimator.train import train_model
from cocoop.methods import DEFAULT, Method
from cocoop.methods._facts import Selection
from cocoop.methods._hooks import views_of
from cocoop.methods._recipe import training_views
from cocoop.methods._settings import MethodChoice, resolve
from cocoop.training.classifier import Classifier
from cocoop.training.loop import OnEpoch
from cocoop.training.modes import TestingMode, checked_mode
from cocoop.training.samples import Samples, Validation, Views, no_validation
from cocoop.training.screening import Predictor, predictor, quickest
from cocoop.training.test_time import in_turn, plain_views
from cocoop.utils.display import some
from cocoop.utils.files import default_cache

SAVED = (
    "method",
    "preset",
    "epochs",
    "settings",
    "template",
    "phrases",
    "seed",
)  # what a folder tells of the params


class PromptClassifier:
    """An image classifier: a method of prompt learning on a frozen CLIP.

    Images are a list of paths, Pillow images, arrays or tensors, or one array (n, h, w, c) or tensor
    (n, c, h, w); `cocoop.data.decode.to_image` says what each may be. Labels are class names: CLIP reads
    them.

    Args:
        method: registered name, e.g. "cocoop".
        backbone: name for `load_backbone`, or a loaded one; None or "auto" for ViT-B-16/openai from the cache
            or the network, and without both for the embedded tiny-clip, with a `UserWarning` when it is
            fitted to what does not look drawn, as that knows drawings only.
        preset: one of the method's presets; None for its first.
        epochs: passes over the images; None for the preset's.
        settings: further fields of the method's `Config` or of `Recipe`, e.g. {"n_ctx": 8}.
        template: the zero-shot prompt, with `{}` for the class name.
        phrases: what classes are called in the prompts, where not by their names: synonyms, descriptions,
            languages, by the name of the class. Several are averaged as text features.
        seed: of everything drawn at random.
        device: where a backbone given by name is put; "auto" takes an accelerator where there is one.
        precision: of a backbone given by name; see `load_backbone`.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        testing: how logits are computed where the contexts depend on the image: "exact"; "screened", exact
            for each image's likeliest names; "linear" (see `cocoop.training.screening`); or "auto", which
            screens where that costs less, by the number of images and names.

    Attributes:
        classes_: the class names it was fitted on, sorted.
        info_: how it was trained, and what it scored where somebody measured that.
        backbone_: the frozen CLIP.
        method_: the trained `cocoop.methods.Method`.

    Examples:
        >>> import cocoop
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
        >>> model = cocoop.PromptClassifier("coop", "tiny-clip", epochs=1, device="cpu")
        >>> model.fit(images, ["noise", "noise", "static", "static"]).predict_proba(images).shape
        (4, 2)
        >>> model.predict_proba(images, classes=["noise", "static", "snow"]).shape
        (4, 3)
    """

    classes_: np.ndarray
    info_: ModelInfo
    backbone_: Backbone
    method_: Method
    _last: Classifier | None = None  # the one that was asked for last
    _last_phrases: Mapping[str, Sequence[str]] = MappingProxyType({})
    _predictors: Mapping[TestingMode, Predictor] = MappingProxyType({})  # of the last classifier

    def __init__(
        self,
        method: str = DEFAULT,
        backbone: str | Backbone | None = None,
        *,
        preset: str | None = None,
        epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        template: str = TEMPLATE,
        phrases: Mapping[str, str | Sequence[str]] | None = None,
        seed: int = 1,
        device: str = AUTO,
        precision: str = AUTO,
        memory_budget: int | None = None,
        testing: str = AUTO,
    ) -> None:
        self.method = method
        self.backbone = backbone
        self.preset = preset
        self.epochs = epochs
        self.settings = settings
        self.template = template
        self.phrases = phrases
        self.seed = seed
        self.device = device
        self.precision = precision
        self.memory_budget = memory_budget
        self.testing = testing

    def fit(
        self, images: Images, labels: Names | None = None, on_epoch: OnEpoch = lambda epoch: None
    ) -> "PromptClassifier":
        """Learn from n images and the class name of each; return self.

        A data frame with columns of paths and labels, and a torchvision dataset with `classes` and `targets`,
        bring their labels.

        Raises:
            UsageError: no images, not one label an image, or a label that is no text.
            CocoopError: an image cannot be read, or training diverged.
        """
        labels, images = labels_of(images, labels), listed(images)
        check_pairs(images, labels)
        if self._is_embedded():
            warn_unnamed(images, stacklevel=2)
        clip, recipe = self.load_backbone(), self.choice.recipe

        def views(epoch: int) -> Tensor:
            view = training_view(self.seed, epoch, len(images), *training_views(recipe))
            return encode_images(clip, images, view)

        return self._fit(views, labels, on_epoch, None, lambda: encode_images(clip, images))

    def fit_features(
        self,
        views: Views,
        labels: Names,
        on_epoch: OnEpoch = lambda epoch: None,
        validation: Callable[[], tuple[Float[Tensor, "m d"], Names]] | None = None,
        plain: Callable[[], Float[Tensor, "n d"]] | None = None,
    ) -> "PromptClassifier":
        """Learn from image features, as the image tower gives them; return self.

        Args:
            views: gives the features (n, d) of the views of an epoch, counted from 0.
            labels: the class name of each image.
            on_epoch: called after every epoch.
            validation: gives the features and class names of images to select on, if the method does.
            plain: gives the features of the test views, to describe what the method saw by.

        Raises:
            UsageError: a validation image is of a class without training images.
        """
        if self._is_embedded():
            warn_unnamed(None, stacklevel=2)
        return self._fit(views, labels, on_epoch, validation, plain)

    def _fit(
        self,
        views: Views,
        labels: Names,
        on_epoch: OnEpoch,
        validation: Callable[[], tuple[Float[Tensor, "m d"], Names]] | None,
        plain: Callable[[], Float[Tensor, "n d"]] | None,
    ) -> "PromptClassifier":
        names = sorted(set(texts(labels)))
        check_distinct(names)
        place = {name: index for index, name in enumerate(names)}

        def selected_on(selection: Selection) -> Validation:
            if validation is None:
                return no_validation(selection)
            fval, held = validation()
            if others := sorted(set(texts(held)) - set(names)):
                raise UsageError(f"validation images of classes without training images: {some(others)}")
            return fval, torch.tensor([place[str(label)] for label in held], dtype=torch.long)

        truth = torch.tensor([place[str(label)] for label in labels])
        return self._train(names, Samples(views, truth, selected_on, plain), on_epoch)

    def predict(
        self, images: Images, classes: Classes | None = None, unknown: str | None = None
    ) -> np.ndarray:
        """Return the likeliest name of each image, among any `classes` or those of the fit.

        A method that adapts itself to test images sees these together: for a stream they come in this order.

        Args:
            images: to name.
            classes: candidates; None for those of the fit.
            unknown: what to answer where the calibrated threshold says that an image is of none of the
                classes; None always answers with a class.

        Raises:
            UsageError: `unknown` is given and there is no threshold for these classes, see `calibrate`.
        """
        classifier = self.classifier(classes)
        answers = self.answers(self.looks(images, classes), classes)
        names = np.array(classifier.class_names)[answers.logits.argmax(1).numpy()]
        if unknown is None:
            return names
        sure = self.sure_of(answers, classifier.class_names)
        if sure is None:
            raise UsageError(
                "there is no threshold for images of none of these classes; fit with cocoop fit, or call "
                "calibrate with held-out images, and ask for the classes of the fit"
            )
        return np.where(sure.numpy(), names, unknown)

    def predict_proba(self, images: Images, classes: Classes | None = None) -> np.ndarray:
        """Return the probabilities (n, c) of `classes`, in their order, or of `classes_`.

        Raises:
            UsageError: there is one class, whose probability would be 1 whatever the image.
        """
        if len(self.classifier(classes).class_names) == 1:
            raise UsageError(
                "one class alone has the probability 1, whatever the image; `similarities` tells how near"
            )
        return self.probabilities(self.looks(images, classes), classes).numpy()

    def similarities(self, images: Images, classes: Classes | None = None) -> np.ndarray:
        """Return the cosines (n, c) of images and the texts of `classes` under the learned prompts.

        They are comparable between lists of names, and not probabilities.
        """
        return self.classifier(classes).similarities(self.features(images))[1].numpy()

    def calibrate(
        self, images: Images, labels: Names | None = None, unknown: Images | None = None
    ) -> "PromptClassifier":
        """Fit temperature and threshold to held-out images; return self.

        Args:
            images: of the classes of the fit, and not learned from.
            labels: the class name of each.
            unknown: images of none of the classes, to choose the threshold's score by.

        Raises:
            NotFittedError: it is not fitted.
            UsageError: not one label an image, or a label of another class.
        """
        self._check_fitted()
        labels, images = labels_of(images, labels), listed(images)
        check_pairs(images, labels)
        others = None if unknown is None else self.looks(unknown)
        return self.calibrate_features(self.looks(images), labels, others, "images given as unknown")

    def calibrate_features(
        self,
        features: Float[Tensor, "n *v d"],
        labels: Names,
        unknown: Float[Tensor, "m *v d"] | None = None,
        source: str = "",
    ) -> "PromptClassifier":
        """Calibrate as `calibrate` does, by image features; `source` says which the unknown images are."""
        names = self.classes_.tolist()
        if others := sorted(set(texts(labels)) - set(names)):
            raise UsageError(f"images to calibrate on are of classes without training images: {some(others)}")
        truth = torch.tensor([names.index(label) for label in texts(labels)])
        known = self.answers(features)
        found = calibrate(known.logits, truth)
        away = None if unknown is None else self.answers(unknown)
        limit = choose_threshold(known, truth, names, found.temperature, away, source)
        self.info_ = self.info_.model_copy(update={"calibration": found, "unknown": limit})
        return self

    def answers(self, features: Float[Tensor, "n *v d"], classes: Classes | None = None) -> Answers:
        """Return logits and cosines of image features, computed as `testing` says."""
        plain = plain_views(features)
        logits, cosines = self.predictor(plain, classes).similarities(plain)
        adapts = self.method_.facts.sees_test_images
        return Answers(self.logits(features, classes) if adapts else logits, cosines)

    def probabilities(
        self, features: Float[Tensor, "n *v d"], classes: Classes | None = None
    ) -> Float[Tensor, "n c"]:
        """Return the calibrated probabilities of image features."""
        return (self.logits(features, classes) / self.temperature).softmax(1)

    def sure(
        self, features: Float[Tensor, "n d"], classes: Classes | None = None
    ) -> Bool[Tensor, " n"] | None:
        """Return which images reach the threshold; None where there is none for these classes."""
        return self.sure_of(self.answers(features, classes), self.classifier(classes).class_names)

    def sure_of(self, answers: Answers, names: Sequence[str]) -> Bool[Tensor, " n"] | None:
        """Return which answers among some names reach the threshold; None where there is none for these."""
        limit = self.info_.unknown
        if limit is None or limit.names != list(names):
            return None
        return answers.score(limit.score, self.temperature) >= limit.value

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become probabilities."""
        return self.info_.calibration.temperature if self.info_.calibration else 1.0

    def score(self, images: Images, labels: Names | None = None, classes: Classes | None = None) -> float:
        """Return the accuracy on labelled images."""
        labels, images = labels_of(images, labels), listed(images)
        check_pairs(images, labels)
        return float(np.mean(self.predict(images, classes) == np.array(texts(labels))))

    def features(self, images: Images) -> Float[Tensor, "n d"]:
        """Encode images to features of the frozen CLIP, of any length, the same before and after training."""
        return encode_images(self.load_backbone(), listed(images))

    def looks(self, images: Images, classes: Classes | None = None) -> Float[Tensor, "n *v d"]:
        """Encode what the method looks at to answer: test views, or several views of every image.

        The views of an image are those that it has alone.
        """
        looks = views_of(self.classifier(classes).method)
        each = listed(images)
        if looks.count == 1 or not len(each):
            return encode_images(self.load_backbone(), each)
        clip, views = self.load_backbone(), looks.of(self.seed, 1)
        return torch.cat([encode_views(clip, [image], views) for image in each])

    def logits(
        self, features: Float[Tensor, "n *v d"], classes: Classes | None = None
    ) -> Float[Tensor, "n c"]:
        """Return the logits of image features, or of the features of all views that the method looks at."""
        return in_turn(self.predictor(plain_views(features), classes), features)

    def predictor(self, features: Float[Tensor, "n d"], classes: Classes | None = None) -> Predictor:
        """Return what computes the logits of image features as `testing` says; the last ones are kept.

        Raises:
            UsageError: the method can only be tested exactly.
        """
        mode, classifier = self.testing_mode(len(features), classes), self.classifier(classes)
        if mode not in self._predictors:
            cache = FeatureCache(default_cache())
            made = predictor(classifier, mode, features, self.info_.hidden, cache)
            self._predictors = {**self._predictors, mode: made}
        return self._predictors[mode]

    def testing_mode(self, images: int, classes: Classes | None = None) -> TestingMode:
        """Return how the logits of so many images are computed."""
        if self.testing != AUTO:
            return checked_mode(self.testing)
        return quickest(self.classifier(classes), images)

    def classifier(self, classes: Classes | None = None) -> Classifier:
        """Return the `Classifier` over `classes` or those of the fit; the last one is kept.

        Raises:
            NotFittedError: it is not fitted.
            UsageError: there are no classes, or others are asked of vectors that belong to theirs.
        """
        if not self.__sklearn_is_fitted__() and classes is not None and not self.choice.facts.learns:
            if self._is_embedded():
                warn_unnamed(None, stacklevel=3)  # where `predict` is called
            nothing = Samples(lambda epoch: torch.empty(0), torch.empty(0).long())
            self._train(sorted(set(texts(classes))), nothing)
        self._check_fitted()
        names = tuple(self.classes_.tolist() if classes is None else texts(classes))
        check_distinct(names)
        phrases = self._phrases(names, classes)
        if classes is None and not names:
            raise UsageError(
                "this model has no class names of its own; give some: classes=[...], or --classes"
            )
        if self._last is None or self._last.class_names != names or self._last_phrases != phrases:
            trained, budget = self.info_.prompt.class_names, self.memory_budget
            self._last = Classifier(self.backbone_, self.method_, names, budget, trained, phrases)
            self._last_phrases, self._predictors = phrases, {}
        return self._last

    def _phrases(self, names: Sequence[str], classes: Classes | None) -> dict[str, tuple[str, ...]]:
        """Return what candidates are called: as `classes` says, else as at the fit, else by their names."""
        given = {**self.info_.prompt.phrases, **(classes if isinstance(classes, Mapping) else {})}
        listed = {name: (each,) if isinstance(each, str) else tuple(each) for name, each in given.items()}
        return {name: listed[name] for name in names if name in listed and listed[name] != (name,)}

    def save(self, folder: str | Path, results: Sequence[Result] = (), overwrite: bool = False) -> None:
        """Write a model folder for `load`, with what the model scored where that was measured.

        Raises:
            NotFittedError: it is not fitted.
            UsageError: the folder holds something else, or a model and `overwrite` is not set.
        """
        self._check_fitted()
        params = {name: getattr(self, name) for name in SAVED}
        update = {"params": params, "results": list(results) or self.info_.results}
        self.info_ = self.info_.model_copy(update=update)
        write_model(Path(folder), self.method_.state_dict(), self.info_, self.method_.transferable, overwrite)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return what it was made with, by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> "PromptClassifier":
        """Change what it was made with and return self. Raises UsageError for an unknown name."""
        for name, value in params.items():
            if name not in self.get_params():
                raise unknown("parameter", name, self.get_params())
            setattr(self, name, value)
        return self

    def load_backbone(self) -> Backbone:
        """Return the frozen CLIP; one given by name is loaded once for all classifiers."""
        if isinstance(self.backbone, Backbone):
            return self.backbone
        return shared_backbone(backbone_name(self.backbone), self.device, self.precision)

    def _is_embedded(self) -> bool:
        """Whether no backbone was named, and none but the embedded one is to be had."""
        unnamed = self.backbone is None or self.backbone == AUTO
        return unnamed and backbone_name(None) == EMBEDDED

    @property
    def choice(self) -> MethodChoice:
        """Return the method with all its settings resolved. Raises UsageError for an impossible one."""
        epochs = {} if self.epochs is None else {"epochs": self.epochs}
        return resolve(self.method, self.preset, {**(self.settings or {}), **epochs})

    def _train(
        self, names: list[str], samples: Samples, on_epoch: OnEpoch = lambda epoch: None
    ) -> "PromptClassifier":
        clip = self.load_backbone()
        method, info = train_model(
            self.choice,
            clip,
            names,
            samples,
            template=self.template,
            seed=self.seed,
            phrases=self.phrases,
            memory_budget=self.memory_budget,
            on_epoch=on_epoch,
        )
        return self._set_fitted(clip, method, info)

    def _set_fitted(self, clip: Backbone, method: Method, info: ModelInfo) -> "PromptClassifier":
        """Take over what was learned; return self."""
        self.backbone_, self.method_, self.info_ = clip, method, info
        self.classes_ = np.array(info.prompt.class_names, dtype=str)
        self._last = None
        return self

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this classifier has learned nothing yet; call fit(images, labels) first")

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        given = {k: v for k, v in self.get_params().items() if k == "method" or v != defaults[k].default}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in given.items())})"

    def __sklearn_clone__(self) -> "PromptClassifier":
        return type(self)(**self.get_params())  # a loaded backbone is frozen, so it is shared

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "info_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        target, inputs = TargetTags(required=True), InputTags(two_d_array=False)
        return Tags("classifier", target, classifier_tags=ClassifierTags(), input_tags=inputs)
