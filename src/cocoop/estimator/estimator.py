"""Classifiers with scikit-learn's conventions: fit on images and names, predict with the same or other names.

Composition over the methods, the training loop and the features. scikit-learn itself is not needed; where it
is installed, `clone`, `cross_val_score` and the like take these objects.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import AUTO
from cocoop.backbones.features import encode_images, keeps, live
from cocoop.data.live import Live
from cocoop.data.own.source import TEMPLATE
from cocoop.data.views import training_view
from cocoop.errors import UsageError
from cocoop.estimator.backbone import backbone_name, chosen_for, shared_backbone
from cocoop.estimator.calibration import Answers, calibrate_answers
from cocoop.estimator.card import ModelInfo, Result
from cocoop.estimator.folder import write_model
from cocoop.estimator.inference import Inference, Kept
from cocoop.estimator.inputs import (
    Classes,
    Images,
    Labels,
    NotFittedError,
    check_pairs,
    is_several,
    label_lists,
    labels_of,
    listed,
    texts,
)
from cocoop.estimator.multilabel import tuned_by
from cocoop.estimator.params import SAVED, params_of, set_params, shown, tags
from cocoop.estimator.train import Labelled, cut_for, samples_of, several_choice, train_model
from cocoop.methods import DEFAULT, Method
from cocoop.methods._recipe import training_views
from cocoop.methods._settings import MethodChoice, resolve
from cocoop.training.classifier import Classifier
from cocoop.training.loop import OnEpoch
from cocoop.training.modes import TestingMode
from cocoop.training.samples import Samples, Views
from cocoop.training.screening import Predictor
from cocoop.training.test_time import plain_views

Features = Float[Tensor, "n *v d"]  # of the test view of each image, or of all views that a method looks at
Scores = Float[Tensor, "n c"]


@dataclass(eq=False, repr=False)
class PromptClassifier:
    """An image classifier: a method of prompt learning on a frozen CLIP.

    Images are a list of paths, Pillow images, arrays or tensors, or one array (n, h, w, c) or tensor
    (n, c, h, w); `cocoop.data.decode.to_image` says what each may be. Labels are class names: CLIP reads
    them. Where an image may have several classes or none, its label is a list of them; `predict` then gives a
    tuple for each image, and `predict_proba` scores of the classes, each independent of the others.

    Args:
        method: registered name, e.g. "cocoop".
        backbone: name for `load_backbone`, or a loaded one; None or "auto" for ViT-B-16/openai from the cache
            or the network, and without both for an embedded one: tiny-clip where the images look drawn, else
            tiny-photo, with a `UserWarning`.
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

    method: str = DEFAULT
    backbone: str | Backbone | None = None
    _: KW_ONLY
    preset: str | None = None
    epochs: int | None = None
    settings: Mapping[str, Any] | None = None
    template: str = TEMPLATE
    phrases: Mapping[str, str | Sequence[str]] | None = None
    seed: int = 1
    device: str = AUTO
    precision: str = AUTO
    memory_budget: int | None = None
    testing: str = AUTO
    classes_: np.ndarray = field(init=False)
    info_: ModelInfo = field(init=False)
    backbone_: Backbone = field(init=False)
    method_: Method = field(init=False)
    _kept: Kept = field(init=False)  # from the last question
    _chosen: str = field(init=False, default="")  # the backbone, where none was named

    def fit(
        self, images: Images, labels: Labels | None = None, on_epoch: OnEpoch = lambda epoch: None
    ) -> "PromptClassifier":
        """Learn from n images and the class name of each, or a list with all of its classes; return self.

        A data frame with columns of paths and labels, and a torchvision dataset with `classes` and `targets`,
        bring their labels.

        Raises:
            UsageError: no images, not one label an image, or a label that is no text; or labels are lists,
                and the method takes one class an image.
            CocoopError: an image cannot be read, or training diverged.
        """
        labels, images = labels_of(images, labels), listed(images)
        check_pairs(images, labels)
        self._chosen = ""
        self._choose(images, stacklevel=2)
        clip, choice = self.load_backbone(), self.choice_for(is_several(labels))
        cut = cut_for(choice, clip, self.template)
        encode = partial(clip.encode_image, cut=cut)

        def views(epoch: int) -> Tensor | Live:
            view = training_view(self.seed, epoch, len(images), *training_views(choice.recipe))
            if not keeps(clip, cut, len(images)):
                return live(clip, images, view, then=encode)
            return encode_images(clip, images, view, encode=encode)

        names, samples = samples_of(views, labels, None, lambda: encode_images(clip, images, encode=encode))
        return self._train(names, samples, on_epoch)

    def fit_features(
        self,
        views: Views,
        labels: Labels,
        on_epoch: OnEpoch = lambda epoch: None,
        validation: Labelled | None = None,
        plain: Callable[[], Float[Tensor, "n d"]] | None = None,
    ) -> "PromptClassifier":
        """Learn from image features, as the image tower gives them; return self.

        Args:
            views: gives the features (n, d) of the views of an epoch, counted from 0.
            labels: the class name of each image, or a list with all of its classes.
            on_epoch: called after every epoch.
            validation: gives the features and class names of images to select on, if the method does.
            plain: gives the features of the test views, to describe what the method saw by.

        Raises:
            UsageError: a validation image is of a class without training images.
        """
        self._choose(None, stacklevel=2)
        return self._train(*samples_of(views, labels, validation, plain), on_epoch)

    def predict(
        self, images: Images, classes: Classes | None = None, unknown: str | None = None
    ) -> np.ndarray:
        """Return the likeliest name of each image, among any `classes` or those of the fit.

        After a fit to images of several classes, return a tuple for each: the names whose score reaches the
        threshold, none where none does.

        A method that adapts itself to test images sees these together: for a stream they come in this order.

        Args:
            images: to name.
            classes: candidates; None for those of the fit.
            unknown: what to answer where the calibrated threshold says that an image is of none of the
                classes; None always answers with a class.

        Raises:
            UsageError: `unknown` is given and there is no threshold for these classes, see `calibrate`.
        """
        each = self._listed(images, classes)
        names = self._names(each, classes)
        answers = self.answers(self.looks(each, classes), classes)
        return self.inference.names(answers, names, unknown)

    def predict_proba(self, images: Images, classes: Classes | None = None) -> np.ndarray:
        """Return the probabilities (n, c) of `classes`, in their order, or of `classes_`.

        After a fit to images of several classes these are scores, which do not add up to 1.

        Raises:
            UsageError: there is one class, whose probability would be 1 whatever the image.
        """
        each = self._listed(images, classes)
        names = self._names(each, classes)
        if not self.info_.multilabel and len(names) == 1:
            raise UsageError(
                "one class alone has the probability 1, whatever the image; `similarities` tells how near"
            )
        return self.probabilities(self.looks(each, classes), classes).numpy()

    def similarities(self, images: Images, classes: Classes | None = None) -> np.ndarray:
        """Return the cosines (n, c) of images and the texts of `classes` under the learned prompts.

        They are comparable between lists of names, and not probabilities.
        """
        seen = plain_views(self.looks(images, classes))
        return self.classifier(classes).similarities(seen)[1].numpy()

    def calibrate(
        self, images: Images, labels: Labels | None = None, unknown: Images | None = None
    ) -> "PromptClassifier":
        """Fit temperature and threshold to held-out images; return self.

        After a fit to images of several classes, these are the temperature and bias of the scores, and a
        threshold for each class; before, every threshold is one half.

        Args:
            images: of the classes of the fit, and not learned from.
            labels: the class name of each, or a list with all of its classes.
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
        features: Features,
        labels: Labels,
        unknown: Float[Tensor, "m *v d"] | None = None,
        source: str = "",
    ) -> "PromptClassifier":
        """Calibrate as `calibrate` does, by image features; `source` says which the unknown images are."""
        known = self.answers(features)  # before those of the others: a stream would see these
        away = None if unknown is None else self.answers(unknown)
        if self.info_.multilabel:
            several = tuned_by(self.info_.multilabel, known, label_lists(labels), away)
            self.info_ = self.info_.model_copy(update={"multilabel": several})
            return self
        names = self.classes_.tolist()
        found, limit = calibrate_answers(known, texts(labels), names, away, source)
        self.info_ = self.info_.model_copy(update={"calibration": found, "unknown": limit})
        return self

    def answers(self, features: Features, classes: Classes | None = None) -> Answers:
        """Return logits and cosines of image features, computed as `testing` says."""
        return self._asked(classes).answers(features, classes)

    def probabilities(self, features: Features, classes: Classes | None = None) -> Scores:
        """Return the calibrated probabilities of image features; of several classes an image the scores."""
        return self._asked(classes).probabilities(features, classes)

    def sure(
        self, features: Float[Tensor, "n d"], classes: Classes | None = None
    ) -> Bool[Tensor, " n"] | None:
        """Return which images reach the threshold; None where there is none for these classes."""
        return self.sure_of(self.answers(features, classes), self.classifier(classes).class_names)

    def sure_of(self, answers: Answers, names: Sequence[str]) -> Bool[Tensor, " n"] | None:
        """Return which answers among some names reach the threshold; None where there is none for these."""
        return self.inference.sure_of(answers, names)

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become probabilities."""
        return self.inference.temperature

    def score(self, images: Images, labels: Labels | None = None, classes: Classes | None = None) -> float:
        """Return the accuracy on labelled images; of several classes an image all must be right."""
        labels, images = labels_of(images, labels), listed(images)
        check_pairs(images, labels)
        if self._asked(classes).info.multilabel:
            pairs = zip(self.predict(images, classes), label_lists(labels), strict=True)
            return float(np.mean([set(found) == set(truth) for found, truth in pairs]))
        return float(np.mean(self.predict(images, classes) == np.array(texts(labels))))

    def features(self, images: Images) -> Float[Tensor, "n d"]:
        """Encode images to features of the frozen CLIP, of any length, the same before and after training."""
        images = listed(images)
        self._choose(images, stacklevel=2)
        return encode_images(self.load_backbone(), images)

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b kd"]:
        """Encode what `backbone_.preprocess` makes of images, with all that is learned in the image tower."""
        return self.inference.encode(pixels)

    def looks(self, images: Images, classes: Classes | None = None) -> Features:
        """Encode what the method looks at to answer: test views, or several views of every image.

        The views of an image are those that it has alone.
        """
        each = self._listed(images, classes)
        return self._asked(classes, each).looks(each, classes)

    def logits(self, features: Features, classes: Classes | None = None) -> Scores:
        """Return the logits of image features, or of the features of all views that the method looks at."""
        return self._asked(classes).logits(features, classes)

    def predictor(self, features: Float[Tensor, "n d"], classes: Classes | None = None) -> Predictor:
        """Return what computes the logits of image features as `testing` says; the last ones are kept.

        Raises:
            UsageError: the method can only be tested exactly.
        """
        return self._asked(classes).predictor(features, classes)

    def testing_mode(self, images: int, classes: Classes | None = None) -> TestingMode:
        """Return how the logits of so many images are computed."""
        return self._asked(classes).testing_mode(images, classes)

    def classifier(self, classes: Classes | None = None) -> Classifier:
        """Return the `Classifier` over `classes` or those of the fit; the last one is kept.

        Raises:
            NotFittedError: it is not fitted.
            UsageError: there are no classes, or others are asked of vectors that belong to theirs.
        """
        return self._asked(classes).classifier(classes)

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
        return params_of(self)

    def set_params(self, **params: Any) -> "PromptClassifier":
        """Change what it was made with and return self. Raises UsageError for an unknown name."""
        set_params(self, params)
        return self

    def load_backbone(self) -> Backbone:
        """Return the frozen CLIP; one given by name is loaded once for all classifiers."""
        if isinstance(self.backbone, Backbone):
            return self.backbone
        name = backbone_name(self._chosen or self.backbone, photographs=True)
        return shared_backbone(name, self.device, self.precision)

    def _choose(self, images: Sequence[object] | None, stacklevel: int) -> None:
        """Choose the backbone by images, where none was named or chosen."""
        if self.backbone in (None, AUTO) and not self._chosen:
            self._chosen = chosen_for(images, stacklevel + 1)

    @property
    def choice(self) -> MethodChoice:
        """Return the method with all its settings resolved. Raises UsageError for an impossible one."""
        epochs = {} if self.epochs is None else {"epochs": self.epochs}
        return resolve(self.method, self.preset, {**(self.settings or {}), **epochs})

    def choice_for(self, several: bool) -> MethodChoice:
        """Return that of a fit, which takes no crops where images may have several classes."""
        return (
            several_choice(self.choice, "augmentation" in (self.settings or {})) if several else self.choice
        )

    def _train(
        self, names: list[str], samples: Samples, on_epoch: OnEpoch = lambda epoch: None
    ) -> "PromptClassifier":
        clip = self.load_backbone()
        method, info = train_model(
            self.choice_for(samples.labels.is_floating_point()),
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
        self._kept = Kept()
        return self

    def _listed(self, images: Images, classes: Classes | None) -> Sequence[Any]:
        """Return a list of images, once it is clear that they can be named."""
        if classes is None or self.choice.facts.learns:
            self._check_fitted()
        return listed(images)

    def _names(self, images: Sequence[Any], classes: Classes | None) -> list[str]:
        return list(self._asked(classes, images).classifier(classes).class_names)

    def _asked(self, classes: Classes | None, images: Sequence[Any] | None = None) -> Inference:
        """Return what was learned, to be asked among `classes`; what learns nothing needs no fit for it."""
        if not self.__sklearn_is_fitted__() and classes is not None and not self.choice.facts.learns:
            self._choose(images, stacklevel=4)  # where `predict` is called
            nothing = Samples(lambda epoch: torch.empty(0), torch.empty(0).long())
            self._train(sorted(set(texts(classes))), nothing)
        self._check_fitted()
        return self.inference

    @property
    def inference(self) -> Inference:
        """What was learned, to be asked as the parameters say now."""
        asked = (self.seed, self.memory_budget, self.testing)
        return Inference(self.backbone_, self.method_, self.info_, self._kept, *asked)

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this classifier has learned nothing yet; call fit(images, labels) first")

    def __repr__(self) -> str:
        return shown(self)

    def __sklearn_clone__(self) -> "PromptClassifier":
        return type(self)(**self.get_params())  # a loaded backbone is frozen, so it is shared

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "info_")

    def __sklearn_tags__(self) -> Any:
        return tags()
