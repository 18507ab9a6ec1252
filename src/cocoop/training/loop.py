"""The only training loop: SGD on cross-entropy over the training classes, by a recipe."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cocoop.errors import CocoopError, UsageError
from cocoop.methods._recipe import Recipe
from cocoop.training.checkpoint import Snapshot, Trace, restore, take
from cocoop.training.classifier import Classifier
from cocoop.training.distributed import ALONE, Team

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


def fit(
    classifier: Classifier,
    views: Views,
    labels: Int[Tensor, " n"],
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    resume: Snapshot | None = None,
    team: Team = ALONE,
) -> Trace:
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
        team: the processes that share the images of every batch; all call this with the same arguments.

    Raises:
        CocoopError: the loss is no finite number any more, or there are no images.
        UsageError: a batch has fewer images than the team has processes.
    """
    if not len(labels):
        raise CocoopError("there are no training images; check the dataset's split and the class subset")
    if team.size > min(recipe.batch_size, len(labels)):
        raise UsageError(
            f"{team.size} processes cannot share batches of {min(recipe.batch_size, len(labels))} image(s); "
            "set a larger batch_size, or give each process cells of its own: --workers"
        )
    labels = labels.to(classifier.device)
    optimizer = torch.optim.SGD(
        classifier.method.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    trace = restore(resume, classifier.method, optimizer) if resume else Trace()
    snapshot = partial(take, classifier.method, optimizer, trace)
    for epoch in range(len(trace.lr), recipe.epochs):
        features = views(epoch)
        seen = others(features, seed, epoch) if recipe.shuffled else features
        start = time.perf_counter()
        rate = recipe.lr_at(epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        trace.lr.append(rate)
        first = len(trace.loss)
        for batch in batches(len(labels), recipe.batch_size, seed, epoch):
            part = team.part(batch)
            loss = F.cross_entropy(classifier(features[part], seen[part]), labels[part]) * (
                len(part) / len(batch)
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            loss = team.sum(loss, list(classifier.method.parameters()))
            _guard(loss, classifier, labels[batch], epoch, len(trace.loss))
            optimizer.step()
            trace.loss.append(loss.item())
        trace.seconds += time.perf_counter() - start
        on_epoch(Epoch(epoch + 1, recipe.epochs, rate, float(np.mean(trace.loss[first:])), snapshot))
    return trace


def batches(count: int, size: int, seed: int, epoch: int) -> Iterator[Int[Tensor, " b"]]:
    """Yield index batches of one epoch, shuffled by (seed, epoch); a short last one only if it is alone."""
    last = count - count % size if count >= size else count
    yield from _order(count, seed, epoch)[:last].split(size)


def others(features: Float[Tensor, "n d"], seed: int, epoch: int) -> Float[Tensor, "n d"]:
    """Give every image the feature of another one, drawn by (seed, epoch) as one cycle through them all."""
    order = _order(len(features), seed, epoch)
    shuffled = torch.empty_like(features)
    shuffled[order] = features[order.roll(1)]
    return shuffled


def _order(count: int, seed: int, epoch: int) -> Int[Tensor, " n"]:
    state = int(np.random.SeedSequence((seed, epoch, count)).generate_state(1)[0])
    return torch.randperm(count, generator=torch.Generator().manual_seed(state))


def _guard(loss: Tensor, classifier: Classifier, labels: Tensor, epoch: int, step: int) -> None:
    if not torch.isfinite(loss):
        names = ", ".join(sorted({classifier.class_names[label] for label in labels.tolist()}))
        raise CocoopError(
            f"training diverged: the loss is {loss.item()} at epoch {epoch + 1}, step {step + 1} "
            f"(classes in the batch: {names}). Lower the learning rate."
        )
