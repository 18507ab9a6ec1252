"""What stops a training: nothing to train on, processes that cannot share it, values that are not finite."""

import math

from torch import Tensor

from cocoop.errors import CocoopError, UsageError
from cocoop.methods import Method
from cocoop.methods._hooks import WithGradientRule, WithSearch, WithSecondStage, step_views_of
from cocoop.methods._recipe import Recipe
from cocoop.training.candidates import needs_all_classes
from cocoop.training.classifier import Classifier
from cocoop.training.distributed import Group
from cocoop.training.samples import Samples


def check_fit(classifier: Classifier, samples: Samples, recipe: Recipe, group: Group) -> None:
    """Check that there is something to fit to, and that the processes can share it.

    Raises:
        CocoopError: there are no images, and the method needs some.
        UsageError: a batch has fewer images than there are processes, or the method needs whole batches; or
            the classes of a step are sampled, and a batch may hold as many, or the method needs all; or all
            steps have the same views, and the method needs several at once.
    """
    images = len(samples.labels)
    if not images and classifier.method.facts.images:
        raise CocoopError("there are no training images; check the dataset's split and the class subset")
    size = min(recipe.batch_size or images, images)
    check_sampling(classifier.method, recipe)
    if recipe.from_views and (count := step_views_of(classifier.method)) > 1:
        raise UsageError(
            f"{classifier.method.facts.name} sees {count} new views of every image in a step; leave out "
            "from_views"
        )
    most = min(size, len(samples.labels.unique()))
    if 0 < recipe.classes_per_step <= most:
        raise UsageError(
            f"a batch of {size} images may hold {most} classes, and a step compares these with others: set "
            f"classes_per_step to more than {most}, or a smaller batch_size"
        )
    if recipe.first_stage < 1 and not isinstance(classifier.method, WithSecondStage):
        raise UsageError(f"{classifier.method.facts.name} has no second stage: leave first_stage at 1")
    if recipe.learns and group.size > size:
        raise UsageError(
            f"{group.size} processes cannot share batches of {size} image(s); "
            "set a larger batch_size, or give each process cells of its own: --workers"
        )
    if group.size > 1 and isinstance(classifier.method, WithGradientRule | WithSearch):
        raise UsageError(
            f"{classifier.method.facts.name} combines the gradients of whole batches, which processes cannot "
            "share; give each process cells of its own: --workers"
        )


def check_sampling(method: Method, recipe: Recipe) -> None:
    """Raise UsageError where steps are to compare a sample of the classes, and the method needs all."""
    if recipe.classes_per_step and (reason := needs_all_classes(method)):
        raise UsageError(f"{method.facts.name} takes no classes_per_step: {reason}")


def check_fitted(method: Method) -> None:
    """Raise CocoopError where what was computed in closed form is not finite."""
    for name, value in method.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise CocoopError(
                f"{method.facts.name} came out with a {name} that is no finite number; look for broken "
                "images, or for settings that are too large"
            )


def check_finite(loss: float, classifier: Classifier, labels: Tensor, epoch: int, step: int) -> None:
    """Raise CocoopError where the loss of a batch is not finite; epoch and step count from 0."""
    if not math.isfinite(loss):
        present = labels.nonzero()[:, 1] if labels.is_floating_point() else labels
        names = ", ".join(sorted({classifier.class_names[label] for label in present.tolist()}))
        raise CocoopError(
            f"training diverged: the loss is {loss} at epoch {epoch + 1}, step {step + 1} "
            f"(classes in the batch: {names}). Lower the learning rate."
        )
