"""The features that a method is computed from or selected on, encoded when it asks for them."""

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cocoop.data.live import in_batches
from cocoop.methods._facts import Selection
from cocoop.methods._hooks import Bank, WithSelection
from cocoop.methods._recipe import Recipe
from cocoop.training.classifier import Classifier
from cocoop.training.samples import Samples, Validation


class Banks:
    """One fit's features.

    Args:
        classifier: the method over the training classes.
        samples: where the features come from.
        recipe: says how many views there are, and whether the best epoch is kept.
        seed: of the fit.
    """

    def __init__(self, classifier: Classifier, samples: Samples, recipe: Recipe, seed: int) -> None:
        self._classifier = classifier
        self._samples = samples
        self._recipe = recipe
        self._seed = seed

    @cached_property
    def bank(self) -> Bank:
        """All of them, on the classifier's device."""
        classifier, samples = self._classifier, self._samples
        views = torch.stack([self._whole(epoch) for epoch in range(self._recipe.views)])
        fval, val_labels = self.validation
        return Bank(
            fimg=views.to(classifier.device),
            labels=samples.labels.to(classifier.device),
            fval=fval.reshape(-1, *views.shape[2:]).to(classifier.device),
            val_labels=val_labels.to(classifier.device),
            logit_scale=classifier.logit_scale,
            text=classifier.text,
            sentences=classifier.sentences,
            seed=self._seed,
        )

    @cached_property
    def validation(self) -> Validation:
        """The images that the fit selects on, at the method's cut, and their classes."""
        return self._samples.validation(self.selection)

    def _whole(self, epoch: int) -> Tensor:
        views = self._samples.views(epoch)
        if isinstance(views, Tensor):
            return views
        return next(in_batches(views, [torch.arange(len(views))]))

    @property
    def views(self) -> Float[Tensor, "vn *l d"]:
        """All views of the training images, one view after the other."""
        return self.bank.fimg.flatten(0, 1)

    @property
    def selection(self) -> Selection:
        """What the fit selects on."""
        method = self._classifier.method
        if isinstance(method, WithSelection):
            return method.selects_on
        return "few-shot validation" if self._recipe.keep == "best" else method.facts.selects_on

    @property
    def selected_on(self) -> str:
        """What the fit has selected on, in words for the record; empty where it does not select."""
        if self.selection == "nothing":
            return ""
        count = len(self.validation[1])
        return f"{self.selection}, {count} images" if count else "nothing, as there are no validation images"
