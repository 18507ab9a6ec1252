"""The only training: a method over its classes, and the loop over its loss by a recipe."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import CocoopError, UsageError
from cocoop.methods import Method
from cocoop.methods._hooks import WithGradientRule, WithLoss
from cocoop.methods._recipe import Recipe
from cocoop.training.checkpoint import Snapshot, restore, take
from cocoop.training.classifier import Classifier
from cocoop.training.distributed import SINGLE, Group
from cocoop.training.log import TrainingLog
from cocoop.training.prompt_file import PromptCard, build_method

Views = Callable[[int], Float[Tensor, "n d"]]  # epoch -> features of that epoch's augmented views


@dataclass(frozen=True)
class Epoch:
    """What a fit says after an epoch.

    Attributes:
        done: epochs done.
        total: epochs of the recipe.
        lr: learning rate of this one.
        loss: mean training loss of this one.
        snapshot: copies the fit as it stands, to go on from.
    """

    done: int
    total: int
    lr: float
    loss: float
    snapshot: Callable[[], Snapshot]


OnEpoch = Callable[[Epoch], None]


def train(
    card: PromptCard,
    recipe: Recipe | None,
    backbone: Backbone,
    views: Views,
    labels: Int[Tensor, " n"],
    *,
    memory_budget: int | None = None,
    on_epoch: OnEpoch = lambda epoch: None,
    resume: Snapshot | None = None,
    group: Group = SINGLE,
) -> tuple[Method, PromptCard]:
    """Build the method that a card describes and fit it; return it with the card that tells of the training.

    Args:
        card: the method, its settings, class names, template and seed.
        recipe: how it is fitted; None where it takes no steps, and is only built.
        backbone: the frozen CLIP.
        views: image features of each epoch.
        labels: class of every image, an index into the card's class names.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        on_epoch: called after every epoch.
        resume: where a fit with the same arguments was interrupted.
        group: the processes that share the images of every batch.

    Raises:
        UsageError: bad class names.
        CocoopError: training diverged, or there are no images.
    """
    method = build_method(card, backbone)
    if recipe is None:
        return method, card
    classifier = Classifier(backbone, method, card.class_names, memory_budget)
    log = fit(classifier, views, labels, recipe, card.seed, on_epoch, resume, group)
    return method, card.model_copy(update=log.by_step())


def fit(
    classifier: Classifier,
    views: Views,
    labels: Int[Tensor, " n"],
    recipe: Recipe,
    seed: int,
    on_epoch: OnEpoch = lambda epoch: None,
    resume: Snapshot | None = None,
    group: Group = SINGLE,
) -> TrainingLog:
    """Train the classifier's method in place.

    Args:
        classifier: the method over the training classes.
        views: image features of each epoch.
        labels: class of every image.
        recipe: epochs, batch size and schedule.
        seed: of the order of the images.
        on_epoch: called after every epoch.
        resume: where a fit with the same arguments was interrupted; it ends with the weights of an
            unbroken one, on the CPU bit for bit.
        group: the processes that share the images of every batch; all call this with the same arguments.

    Raises:
        CocoopError: the loss is no finite number any more, or there are no images.
        UsageError: a batch has fewer images than there are processes, or the method combines the gradients
            of whole batches by a rule of its own and there are several.
    """
    if not len(labels):
        raise CocoopError("there are no training images; check the dataset's split and the class subset")
    if group.size > min(recipe.batch_size, len(labels)):
        raise UsageError(
            f"{group.size} processes cannot share batches of {min(recipe.batch_size, len(labels))} image(s); "
            "set a larger batch_size, or give each process cells of its own: --workers"
        )
    if group.size > 1 and isinstance(classifier.method, WithGradientRule):
        raise UsageError(
            f"{classifier.method.facts.name} combines the gradients of whole batches, which processes cannot "
            "share; give each process cells of its own: --workers"
        )
    labels = labels.to(classifier.device)
    optimizer = recipe.optimizer_of(classifier.method.parameters())
    log = restore(resume, classifier.method, optimizer) if resume else TrainingLog()
    snapshot = partial(take, classifier.method, optimizer, log)
    for epoch in range(len(log.lr), recipe.epochs):
        features = views(epoch)
        start = time.perf_counter()
        rate = recipe.lr_at(epoch)
        for parameters in optimizer.param_groups:
            parameters["lr"] = rate
        log.lr.append(rate)
        first = len(log.loss)
        for batch in batches(len(labels), recipe.batch_size, seed, epoch):
            part = group.part(batch)
            terms = losses(classifier, features[part], labels[part])
            optimizer.zero_grad(set_to_none=True)
            loss = backward(classifier.method, terms, len(part) / len(batch))
            loss = group.sum(loss, list(classifier.method.parameters()))
            _check_finite(loss, classifier, labels[batch], epoch, len(log.loss))
            optimizer.step()
            log.loss.append(loss.item())
        log.seconds += time.perf_counter() - start
        on_epoch(Epoch(epoch + 1, recipe.epochs, rate, float(np.mean(log.loss[first:])), snapshot))
    return log


def losses(
    classifier: Classifier, zimg: Float[Tensor, "b d"], labels: Int[Tensor, " b"]
) -> dict[str, Float[Tensor, ""]]:
    """Return the terms of the loss by name: the method's own, or cross-entropy alone."""
    out = classifier.output(zimg)
    if isinstance(classifier.method, WithLoss):
        return classifier.method.loss(out, labels)
    return {"cross-entropy": F.cross_entropy(out.logits, labels)}


def backward(method: Method, terms: Mapping[str, Tensor], share: float) -> Float[Tensor, ""]:
    """Put the gradients of all that is learned in place, and return the sum of the terms.

    Args:
        method: whose parameters they are; it may combine the gradients of its terms by a rule of its own.
        terms: of the loss.
        share: of the batch that this process has; its losses and gradients are scaled by it.
    """
    loss = torch.stack(list(terms.values())).sum() * share
    if not isinstance(method, WithGradientRule):
        loss.backward()
        return loss
    learned = [parameter for parameter in method.parameters() if parameter.requires_grad]
    each = [torch.autograd.grad(term * share, learned, retain_graph=True) for term in terms.values()]
    for parameter, *gradients in zip(learned, *each, strict=True):
        parameter.grad = method.combine(gradients)
    return loss


def batches(count: int, size: int, seed: int, epoch: int) -> Iterator[Int[Tensor, " b"]]:
    """Yield index batches of one epoch, shuffled by (seed, epoch); a short last one only if it is alone."""
    last = count - count % size if count >= size else count
    state = int(np.random.SeedSequence((seed, epoch, count)).generate_state(1)[0])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(state))
    yield from order[:last].split(size)


def _check_finite(loss: Tensor, classifier: Classifier, labels: Tensor, epoch: int, step: int) -> None:
    if not torch.isfinite(loss):
        names = ", ".join(sorted({classifier.class_names[label] for label in labels.tolist()}))
        raise CocoopError(
            f"training diverged: the loss is {loss.item()} at epoch {epoch + 1}, step {step + 1} "
            f"(classes in the batch: {names}). Lower the learning rate."
        )
