"""Classifiers with scikit-learn's conventions: fit on images and names, predict with the same or other names.

Composition over the methods, the training loop and the features. scikit-learn itself is not needed; where it
is installed, `clone`, `cross_val_score` and the like take these objects.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.clip import EMBEDDED, Backbone
from cocoop.backbones.device import AUTO
from cocoop.backbones.features import encode_images, encode_views
from cocoop.data.own.source import TEMPLATE
from cocoop.data.views import training_view
from cocoop.errors import UsageError, unknown
from cocoop.estimator.backbone import shared_backbone, warn_unnamed
from cocoop.estimator.card import ModelInfo, Result
from cocoop.estimator.folder import write_model
from cocoop.estimator.inputs import Images, Names, NotFittedError, check_pairs, listed, texts
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

SAVED = ("method", "preset", "epochs", "settings", "template", "seed")  # what a folder tells of the params


class PromptClassifier:
    """An image classifier: a method of prompt learning on a frozen CLIP.

    Images are a list of paths, Pillow images, arrays or tensors, or one array (n, h, w, c) or tensor
    (n, c, h, w); `cocoop.data.decode.to_image` says what each may be. Labels are class names: CLIP reads
    them.

    Args:
        method: registered name, e.g. "cocoop".
        backbone: name for `load_backbone`, or a loaded one; None for the embedded tiny-clip, with a
            `UserWarning` when it is fitted, as that knows drawings only.
        preset: one of the method's presets; None for its first.
        epochs: passes over the images; None for the preset's.
        settings: further fields of the method's `Config` or of `Recipe`, e.g. {"n_ctx": 8}.
        template: the zero-shot prompt, with `{}` for the class name.
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

    def __init__(
        self,
        method: str = DEFAULT,
        backbone: str | Backbone | None = None,
        *,
        preset: str | None = None,
        epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        template: str = TEMPLATE,
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
        self.seed = seed
        self.device = device
        self.precision = precision
        self.memory_budget = memory_budget
        self.testing = testing
        self._last: Classifier | None = None
        self._predictors: dict[TestingMode, Predictor] = {}  # of the last classifier

    def fit(
        self, images: Images, labels: Names, on_epoch: OnEpoch = lambda epoch: None
    ) -> "PromptClassifier":
        """Learn from n images and the class name of each; return self.

        Raises:
            UsageError: no images, not one label an image, or a label that is no text.
            CocoopError: an image cannot be read, or training diverged.
        """
        images, clip, recipe = listed(images), self.load_backbone(), self.choice.recipe
        check_pairs(images, labels)

        def views(epoch: int) -> Tensor:
            view = training_view(self.seed, epoch, len(images), *training_views(recipe))
            return encode_images(clip, images, view)

        return self.fit_features(views, labels, on_epoch)

    def fit_features(
        self,
        views: Views,
        labels: Names,
        on_epoch: OnEpoch = lambda epoch: None,
        validation: Callable[[], tuple[Float[Tensor, "m d"], Names]] | None = None,
    ) -> "PromptClassifier":
        """Learn from image features, as the image tower gives them; return self.

        Args:
            views: gives the features (n, d) of the views of an epoch, counted from 0.
            labels: the class name of each image.
            on_epoch: called after every epoch.
            validation: gives the features and class names of images to select on, if the method does.

        Raises:
            UsageError: a validation image is of a class without training images.
        """
        names = sorted(set(texts(labels)))
        place = {name: index for index, name in enumerate(names)}

        def selected_on(selection: Selection) -> Validation:
            if validation is None:
                return no_validation(selection)
            fval, held = validation()
            if others := sorted(set(texts(held)) - set(names)):
                raise UsageError(f"validation images of classes without training images: {some(others)}")
            return fval, torch.tensor([place[str(label)] for label in held], dtype=torch.long)

        truth = torch.tensor([place[str(label)] for label in labels])
        return self._train(names, Samples(views, truth, selected_on), on_epoch)

    def predict(self, images: Images, classes: Names | None = None) -> np.ndarray:
        """Return the likeliest name of each image, among any `classes` or those of the fit.

        A method that adapts itself to test images sees these together: for a stream they come in this order.
        """
        names = np.array(self.classifier(classes).class_names)
        return names[self.logits(self.looks(images, classes), classes).argmax(1).numpy()]

    def predict_proba(self, images: Images, classes: Names | None = None) -> np.ndarray:
        """Return the probabilities (n, c) of `classes`, in their order, or of `classes_`."""
        return self.logits(self.looks(images, classes), classes).softmax(1).numpy()

    def score(self, images: Images, labels: Names, classes: Names | None = None) -> float:
        """Return the accuracy on labelled images."""
        images = listed(images)
        check_pairs(images, labels)
        return float(np.mean(self.predict(images, classes) == np.array(texts(labels))))

    def features(self, images: Images) -> Float[Tensor, "n d"]:
        """Encode images to features of the frozen CLIP, of any length, the same before and after training."""
        return encode_images(self.load_backbone(), listed(images))

    def looks(self, images: Images, classes: Names | None = None) -> Float[Tensor, "n *v d"]:
        """Encode what the method looks at to answer: test views, or several views of every image.

        The views of an image are those that it has alone.
        """
        looks = views_of(self.classifier(classes).method)
        if looks.count == 1:
            return self.features(images)
        clip, views = self.load_backbone(), looks.of(self.seed, 1)
        return torch.cat([encode_views(clip, [image], views) for image in listed(images)])

    def logits(self, features: Float[Tensor, "n *v d"], classes: Names | None = None) -> Float[Tensor, "n c"]:
        """Return the logits of image features, or of the features of all views that the method looks at."""
        return in_turn(self.predictor(plain_views(features), classes), features)

    def predictor(self, features: Float[Tensor, "n d"], classes: Names | None = None) -> Predictor:
        """Return what computes the logits of image features as `testing` says; the last ones are kept.

        Raises:
            UsageError: the method can only be tested exactly.
        """
        mode, classifier = self.testing_mode(len(features), classes), self.classifier(classes)
        if mode not in self._predictors:
            cache = FeatureCache(default_cache())
            made = predictor(classifier, mode, features, self.info_.hidden, cache)
            self._predictors[mode] = made
        return self._predictors[mode]

    def testing_mode(self, images: int, classes: Names | None = None) -> TestingMode:
        """Return how the logits of so many images are computed."""
        if self.testing != AUTO:
            return checked_mode(self.testing)
        return quickest(self.classifier(classes), images)

    def classifier(self, classes: Names | None = None) -> Classifier:
        """Return the `Classifier` over `classes` or those of the fit; the last one is kept.

        Raises:
            NotFittedError: it is not fitted.
            UsageError: there are no classes, or others are asked of vectors that belong to theirs.
        """
        if not self.__sklearn_is_fitted__() and classes is not None and not self.choice.facts.learns:
            nothing = Samples(lambda epoch: torch.empty(0), torch.empty(0).long())
            self._train(sorted(set(texts(classes))), nothing)
        self._check_fitted()
        names = tuple(self.classes_.tolist() if classes is None else texts(classes))
        if classes is None and not names:
            raise UsageError(
                "this model has no class names of its own; give some: classes=[...], or --classes"
            )
        if self._last is None or self._last.class_names != names:
            trained = self.info_.prompt.class_names
            self._last = Classifier(self.backbone_, self.method_, names, self.memory_budget, trained)
            self._predictors = {}
        return self._last

    def save(self, folder: str | Path, results: Sequence[Result] = ()) -> None:
        """Write a model folder for `load`, with what the model scored where that was measured.

        Raises:
            NotFittedError: it is not fitted.
            UsageError: the folder holds something else.
        """
        self._check_fitted()
        params = {name: getattr(self, name) for name in SAVED}
        update = {"params": params, "results": list(results) or self.info_.results}
        self.info_ = self.info_.model_copy(update=update)
        write_model(Path(folder), self.method_.state_dict(), self.info_, self.method_.transferable)

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
        return shared_backbone(self.backbone or EMBEDDED, self.device, self.precision)

    @property
    def choice(self) -> MethodChoice:
        """Return the method with all its settings resolved. Raises UsageError for an impossible one."""
        epochs = {} if self.epochs is None else {"epochs": self.epochs}
        return resolve(self.method, self.preset, {**(self.settings or {}), **epochs})

    def _train(
        self, names: list[str], samples: Samples, on_epoch: OnEpoch = lambda epoch: None
    ) -> "PromptClassifier":
        if self.backbone is None:
            warn_unnamed(stacklevel=4)  # where `fit` is called
        clip = self.load_backbone()
        method, info = train_model(
            self.choice,
            clip,
            names,
            samples,
            template=self.template,
            seed=self.seed,
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
