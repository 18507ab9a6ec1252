"""Classifiers with scikit-learn's conventions: fit on images and names, predict with the same or other names.

Composition over the methods, the training loop and the features. scikit-learn itself is not needed; where it
is installed, `clone`, `cross_val_score` and the like take these objects.
"""

import inspect
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from cocoop.backbone import EMBEDDED, Backbone, load_backbone
from cocoop.data.photos import ImageLike
from cocoop.data.sources import TEMPLATE
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.features import encode_images, view_seeds
from cocoop.fit import Epoch, Views
from cocoop.learn import learn
from cocoop.logits import Classifier
from cocoop.methods import Method
from cocoop.model import trained_method
from cocoop.modelcard import ModelFacts, Result
from cocoop.modelfolder import read_model, write_model
from cocoop.precision import AUTO
from cocoop.settings import MethodChoice, resolve

SAVED = ("method", "preset", "epochs", "settings", "template", "seed")  # what a folder tells of the params

Images = ImageLike | Sequence[ImageLike]
Names = Sequence[str] | np.ndarray
OnEpoch = Callable[[Epoch], None]


class PromptClassifier:
    """An image classifier: a method of prompt learning on a frozen CLIP.

    Images are a list of paths, Pillow images, arrays or tensors, or one array (n, h, w, c) or tensor
    (n, c, h, w); `cocoop.data.photos.to_image` says what each may be. Labels are class names: CLIP reads
    them.

    Args:
        method: registered name, e.g. "cocoop".
        backbone: name for `load_backbone`, or a loaded one.
        preset: one of the method's presets; None for its first.
        epochs: passes over the images; None for the preset's.
        settings: further fields of the method's `Config` or of `Recipe`, e.g. {"n_ctx": 8}.
        template: the zero-shot prompt, with `{}` for the class name.
        seed: of everything drawn at random.
        device: where a backbone given by name is put; "auto" takes an accelerator where there is one.
        precision: of a backbone given by name; see `load_backbone`.
        memory_budget: bytes for the text encoder; None for what the machine allows.

    Attributes:
        classes_: the class names it was fitted on, sorted.
        facts_: how it was trained, and what it scored where somebody measured that.
        backbone_: the frozen CLIP.
        method_: the trained `cocoop.methods.Method`.
    """

    classes_: np.ndarray
    facts_: ModelFacts
    backbone_: Backbone
    method_: Method

    def __init__(
        self,
        method: str = "cocoop",
        backbone: str | Backbone = EMBEDDED,
        *,
        preset: str | None = None,
        epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        template: str = TEMPLATE,
        seed: int = 1,
        device: str = AUTO,
        precision: str = AUTO,
        memory_budget: int | None = None,
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
        self._last: Classifier | None = None

    def fit(
        self, images: Images, labels: Names, on_epoch: OnEpoch = lambda epoch: None
    ) -> "PromptClassifier":
        """Learn from n images and the class name of each; return self.

        Raises:
            UsageError: no images, not one label an image, or a label that is no text.
            CocoopError: an image cannot be read, or training diverged.
        """
        images, clip = _listed(images), self.load_backbone()
        _check_pairs(images, labels)

        def views(epoch: int) -> Tensor:
            return encode_images(clip, images, view_seeds(self.seed, epoch, len(images)))

        return self.fit_features(views, labels, on_epoch)

    def fit_features(
        self, views: Views, labels: Names, on_epoch: OnEpoch = lambda epoch: None
    ) -> "PromptClassifier":
        """Learn from image features; return self.

        Args:
            views: gives the L2-normalised features (n, d) of the views of an epoch, counted from 0.
            labels: the class name of each image.
            on_epoch: called after every epoch.
        """
        names = sorted(set(_texts(labels)))
        place = {name: index for index, name in enumerate(names)}
        clip = self.load_backbone()
        method, facts = learn(
            self.choice(),
            clip,
            names,
            views,
            torch.tensor([place[str(label)] for label in labels]),
            template=self.template,
            seed=self.seed,
            memory_budget=self.memory_budget,
            on_epoch=on_epoch,
        )
        return self._become(clip, method, facts)

    def predict(self, images: Images, classes: Names | None = None) -> np.ndarray:
        """Return the likeliest name of each image, among any `classes` or those of the fit."""
        best = self.logits(self.features(images), classes).argmax(1).numpy()
        return np.array(self.classifier(classes).class_names)[best]

    def predict_proba(self, images: Images, classes: Names | None = None) -> np.ndarray:
        """Return the probabilities (n, c) of `classes`, in their order, or of `classes_`."""
        return self.logits(self.features(images), classes).softmax(1).numpy()

    def score(self, images: Images, labels: Names, classes: Names | None = None) -> float:
        """Return the accuracy on labelled images."""
        images = _listed(images)
        _check_pairs(images, labels)
        return float(np.mean(self.predict(images, classes) == np.array(_texts(labels))))

    def features(self, images: Images) -> Float[Tensor, "n d"]:
        """Encode images to L2-normalised features of the frozen CLIP, the same before and after training."""
        return encode_images(self.load_backbone(), _listed(images))

    def logits(self, features: Float[Tensor, "n d"], classes: Names | None = None) -> Float[Tensor, "n c"]:
        """Return the logits of image features."""
        return self.classifier(classes).predict(features)

    def classifier(self, classes: Names | None = None) -> Classifier:
        """Return the `Classifier` over `classes` or those of the fit; the last one is kept.

        Raises:
            UsageError: it is not fitted, or other classes are asked of vectors that belong to theirs.
        """
        if not self.__sklearn_is_fitted__() and classes is not None and self.choice().recipe is None:
            self.fit_features(lambda epoch: torch.empty(0), classes)  # nothing is learned
        self._check_fitted()
        names = tuple(self.classes_.tolist() if classes is None else _texts(classes))
        if not self.method_.transferable and list(names) != self.facts_.prompt.class_names:
            raise UsageError("this model learned vectors for each of its own classes; others have none")
        if self._last is None or self._last.class_names != names:
            self._last = Classifier(self.backbone_, self.method_, names, self.memory_budget)
        return self._last

    def save(self, folder: str | Path, results: Sequence[Result] = ()) -> None:
        """Write a model folder for `load`, with what the model scored where that was measured.

        Raises:
            UsageError: it is not fitted, or the folder holds something else.
        """
        self._check_fitted()
        params = {name: getattr(self, name) for name in SAVED}
        update = {"params": params, "results": list(results) or self.facts_.results}
        self.facts_ = self.facts_.model_copy(update=update)
        write_model(Path(folder), self.method_, self.facts_)

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
        return _loaded(self.backbone, self.device, self.precision)

    def choice(self) -> MethodChoice:
        """Return the method with all its settings resolved. Raises UsageError for an impossible one."""
        epochs = {} if self.epochs is None else {"epochs": self.epochs}
        return resolve(self.method, self.preset, {**(self.settings or {}), **epochs})

    def _become(self, clip: Backbone, method: Method, facts: ModelFacts) -> "PromptClassifier":
        self.backbone_, self.method_, self.facts_ = clip, method, facts
        self.classes_ = np.array(facts.prompt.class_names)
        self._last = None
        return self

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise UsageError("this classifier has learned nothing yet; call fit(images, labels) first")

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        given = {k: v for k, v in self.get_params().items() if k == "method" or v != defaults[k].default}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in given.items())})"

    def __sklearn_clone__(self) -> "PromptClassifier":
        return type(self)(**self.get_params())  # a loaded backbone is frozen, so it is shared

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "facts_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        target, inputs = TargetTags(required=True), InputTags(two_d_array=False)
        return Tags("classifier", target, classifier_tags=ClassifierTags(), input_tags=inputs)


def CoCoOp(backbone: str | Backbone = EMBEDDED, **params: Any) -> PromptClassifier:
    """Return a `PromptClassifier` of CoCoOp: context conditioned on the image (arXiv:2203.05557)."""
    return PromptClassifier("cocoop", backbone, **params)


def CoOp(backbone: str | Backbone = EMBEDDED, **params: Any) -> PromptClassifier:
    """Return a `PromptClassifier` of CoOp: one context for all images (arXiv:2109.01134)."""
    return PromptClassifier("coop", backbone, **params)


def ZeroShot(backbone: str | Backbone = EMBEDDED, **params: Any) -> PromptClassifier:
    """Return a `PromptClassifier` of zero-shot CLIP: it predicts with `classes=` without a fit."""
    return PromptClassifier("zeroshot", backbone, **params)


def load(
    folder: str | Path,
    backbone: Backbone | None = None,
    *,
    device: str = AUTO,
    precision: str = AUTO,
    memory_budget: int | None = None,
) -> PromptClassifier:
    """Read a model folder back.

    Args:
        folder: what `PromptClassifier.save` or `cocoop fit` wrote.
        backbone: the loaded CLIP it was trained on; None loads it by the name in the folder.
        device: where to put that; "auto" takes an accelerator where there is one.
        precision: of that; see `load_backbone`.
        memory_budget: bytes for the text encoder; None for what the machine allows.

    Raises:
        CocoopError: a file is missing, edited or cut off, or the backbone is another or not to be had.
    """
    facts, tensors = read_model(Path(folder))
    name = facts.prompt.backbone
    try:
        clip = backbone or _loaded(name, device, precision)
    except CocoopError as error:
        code = f"import cocoop; cocoop.load_backbone({name!r})"
        raise CocoopError(
            f"{folder} needs the backbone {name}, which is not here and cannot be fetched: {error}. With a "
            f"network, fetch it once: {shlex.join(['python', '-c', code])}"
        ) from error
    method = trained_method(facts.prompt, tensors, clip, folder)
    here: dict[str, Any] = {"device": device, "precision": precision, "memory_budget": memory_budget}
    params = {name: facts.params[name] for name in SAVED if name in facts.params}
    return PromptClassifier(backbone=backbone or name, **here, **params)._become(clip, method, facts)


@lru_cache(maxsize=2)
def _loaded(name: str, device: str, precision: str) -> Backbone:
    """Load a backbone once for all classifiers: it is frozen."""
    return load_backbone(name, device, precision)


def _listed(images: Images) -> list[ImageLike]:
    """Return a list of images, also for a single path or Pillow image."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 3:
        raise UsageError(
            f"a batch of images has four axes, not {tuple(images.shape)}; put one image in a list"
        )
    return list(cast(Sequence[ImageLike], images))


def _check_pairs(images: Sequence[ImageLike], labels: Names) -> None:
    if not len(images) or len(images) != len(labels):
        raise UsageError(f"{len(images)} images and {len(labels)} labels; give one label an image")


def _texts(names: Names) -> list[str]:
    if isinstance(names, str):
        raise UsageError(f"give a list of class names, not the text {names!r}")
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"a label is the name of its class, which CLIP reads; not {name!r}")
    return [str(name) for name in names]
