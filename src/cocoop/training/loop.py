"""The only training: a method over its classes, fitted to samples by a recipe."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.backbones.features import BATCH
from cocoop.data.live import Live, in_batches, together
from cocoop.methods import Method
from cocoop.methods._hooks import (
    WithFinish,
    WithFit,
    WithHidden,
    WithImage,
    WithSearch,
    WithSecondStage,
    WithTextChanges,
    step_views_of,
)
from cocoop.methods._recipe import Recipe
from cocoop.training.bank import Banks
from cocoop.training.candidates import candidates
from cocoop.training.checkpoint import Snapshot, restore, take
from cocoop.training.checks import check_finite, check_fit, check_fitted
from cocoop.training.classifier import Classifier, evaluating
from cocoop.training.distributed import SINGLE, Group
from cocoop.training.keep import Kept
from cocoop.training.linearised import hidden_statistics
from cocoop.training.log import TrainingLog
from cocoop.training.metrics import accuracy
from cocoop.training.multilabel import Offsets
from cocoop.training.prompt_file import PromptCard, build_method
from cocoop.training.samples import Samples, Truth, of_sentences
from cocoop.training.start import start_from
from cocoop.training.step import descend, losses
from cocoop.utils.seeding import seeded


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
    samples: Samples,
    *,
    memory_budget: int | None = None,
    on_epoch: OnEpoch = lambda epoch: None,
    resume: Snapshot | None = None,
    group: Group = SINGLE,
) -> tuple[Method, PromptCard]:
    """Build the method that a card describes and fit it; return it with the card that tells of the training.

    Args:
        card: the method, its settings, class names, template and seed.
        recipe: how it is fitted; None where nothing is, and it is only built.
        backbone: the frozen CLIP.
        samples: what it is fitted to.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        on_epoch: called after every epoch.
        resume: where a fit with the same arguments was interrupted.
        group: the processes that share the images of every batch.

    Raises:
        UsageError: bad class names, or `starts_from` names a prompt that does not fit.
        CocoopError: training diverged, or there are no images.
    """
    method = build_method(card, backbone)
    if recipe is None:
        method.eval()
        return method, card
    if recipe.starts_from:
        start_from(recipe.starts_from, method, card)
    names = [*card.class_names, *card.other_names]
    classifier = Classifier(backbone, method, names, memory_budget, card.class_names, card.phrases)
    log = fit(classifier, samples, recipe, card.seed, on_epoch, resume, group)
    return method, card.model_copy(update=log.by_step())


def fit(
    classifier: Classifier,
    samples: Samples,
    recipe: Recipe,
    seed: int,
    on_epoch: OnEpoch = lambda epoch: None,
    resume: Snapshot | None = None,
    group: Group = SINGLE,
) -> TrainingLog:
    """Fit the classifier's method in place: in closed form, by steps, or both.

    A method that uses no images but sentences is fitted to these instead: a batch is of sentences, whose
    features stand in the place of the images', and their classes are the labels.

    Args:
        classifier: the method over the training classes.
        samples: what it is fitted to.
        recipe: views, epochs, batch size and schedule.
        seed: of the order of the images.
        on_epoch: called after every epoch.
        resume: where a fit with the same arguments was interrupted; it ends with the weights of an
            unbroken one, on the CPU bit for bit.
        group: the processes that share the images of every batch; all call this with the same arguments.

    Raises:
        CocoopError: the loss is no finite number any more, or there are no images.
        UsageError: a batch has fewer images than there are processes, or the method combines the gradients
            of whole batches by a rule of its own and there are several; or a step is to compare a sample of
            the classes, and the method needs all, or the batch may hold as many.
    """
    method = classifier.method
    if method.facts.sentences and not method.facts.images:
        samples = of_sentences(classifier.sentences, samples.validation)
    check_fit(classifier, samples, recipe, group)
    method.train()
    banks, kept, log = Banks(classifier, samples, recipe, seed), Kept(recipe), TrainingLog()
    if isinstance(method, WithFit) and resume is None:
        bank = banks.bank  # encoding is no part of the time
        start = time.perf_counter()
        method.fit(bank)
        log.seconds += time.perf_counter() - start
        check_fitted(method)
    if recipe.learns:
        log = _steps(classifier, samples, recipe, seed, banks, kept, log, on_epoch, resume, group)
    kept.put_back(method)
    method.eval()
    if isinstance(method, WithFinish):
        bank = banks.bank
        start = time.perf_counter()
        log.selected = method.finish(bank)
        log.seconds += time.perf_counter() - start
    log.selected_on = banks.selected_on
    return log


def _steps(
    classifier: Classifier,
    samples: Samples,
    recipe: Recipe,
    seed: int,
    banks: Banks,
    kept: Kept,
    log: TrainingLog,
    on_epoch: OnEpoch,
    resume: Snapshot | None,
    group: Group,
) -> TrainingLog:
    """Take the steps of a recipe; return the log."""
    method, images = classifier.method, len(samples.labels)
    optimizer = recipe.optimizer_of(method.named_parameters())
    if resume:
        log = restore(resume, method, optimizer, kept)
    epochs, steps = recipe.all_epochs(images, samples.shots), recipe.all_steps(images, samples.shots)
    for epoch in range(len(log.lr), epochs):
        features = banks.views if recipe.from_views else _views(samples, epoch, step_views_of(method))
        views, each_has = len(features) // max(1, images), (1,) * (samples.labels.dim() - 1)
        labels = samples.labels.repeat(views, *each_has).to(classifier.device)
        start, first = time.perf_counter(), len(log.loss)
        count = min(recipe.steps_an_epoch(images), steps - first)
        order = list(islice(batches(len(labels), recipe.batch_size, seed, epoch), count))
        parts = [group.part(batch) for batch in order]
        for batch, part, seen in zip(order, parts, in_batches(features, parts), strict=True):
            if isinstance(method, WithSecondStage) and len(log.loss) == recipe.turn(steps):
                method.second_stage(_texts(classifier, seen))
            rate = _set_rate(optimizer, recipe, epoch, len(log.loss), steps)
            log.lr += [rate] * (len(log.lr) == epoch)
            share = len(part) / len(batch) if len(batch) else 1.0
            some = candidates(classifier, labels[batch], recipe, seed, len(log.loss))
            if samples.offsets is not None:
                some = some._replace(shift=Offsets(samples.offsets))
            optimizer.zero_grad(set_to_none=True)
            with _generators(classifier, seed, len(log.loss), group):
                terms = descend(some, seen, group.part(some.labels), share)
            values = group.sum(torch.stack(list(terms.values())), list(method.parameters()))
            *each, loss = torch.cat([values, values.sum()[None]]).tolist()  # one wait for the device
            check_finite(loss, classifier, labels[batch], epoch, len(log.loss))
            if isinstance(method, WithSearch):
                method.search(partial(_loss, classifier, seen, labels[part]))
            else:
                if recipe.clip:
                    torch.nn.utils.clip_grad_norm_(method.parameters(), recipe.clip)
                optimizer.step()
            log.add(loss, dict(zip(terms, each, strict=True)))
        log.seconds += time.perf_counter() - start
        if isinstance(method, WithHidden) and epoch + 1 == epochs:
            plain = samples.plain() if samples.plain else features
            assert isinstance(plain, Tensor)  # image features: nothing is learned inside the tower
            log.hidden = hidden_statistics(method, plain.to(classifier.device))
        if recipe.keep == "best" and len(banks.validation[1]):
            held, truth = banks.validation
            log.accuracy.append(accuracy(classifier.predict_unadapted(_seen(classifier, held)), truth.cpu()))
        kept.add(method, epoch, log.accuracy)
        snapshot = partial(take, method, optimizer, kept, log)
        on_epoch(Epoch(epoch + 1, epochs, log.lr[-1], float(np.mean(log.loss[first:])), snapshot))
    return log


def _views(samples: Samples, epoch: int, count: int) -> Tensor | Live:
    """Return the views of an epoch; several of an image are drawn as those of several epochs are."""
    return together([samples.views(epoch * count + turn) for turn in range(count)])


def batches(count: int, size: int, seed: int, epoch: int) -> Iterator[Int[Tensor, " b"]]:
    """Yield index batches of one epoch, shuffled by (seed, epoch); a short last one only if it is alone."""
    last = count - count % size if 0 < size <= count else count
    state = int(np.random.SeedSequence((seed, epoch, count)).generate_state(1)[0])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(state))
    yield from order[:last].split(size or count)


def _generators(classifier: Classifier, seed: int, step: int, group: Group) -> AbstractContextManager[None]:
    """Seed torch's own generators for a step of a method that may draw inside the towers."""
    if not isinstance(classifier.method, WithImage | WithTextChanges):
        return nullcontext()
    state = int(np.random.SeedSequence((seed, step, group.rank)).generate_state(1)[0])
    return seeded(state, classifier.device)


@torch.no_grad()
def _seen(classifier: Classifier, state: Float[Tensor, "m *n d"]) -> Float[Tensor, "m kd"]:
    """Return the features of images, with what is learned so far."""
    with evaluating(classifier.method):
        return torch.cat([classifier.see(part) for part in state.split(BATCH)])


@torch.no_grad()
def _texts(classifier: Classifier, state: Float[Tensor, "b *n w"]) -> Float[Tensor, "c d"]:
    """Return the text features under what is learned so far, the same for all images."""
    with evaluating(classifier.method):
        return classifier.encode(classifier.contexts(classifier.see(state[:1])))[0]


@torch.no_grad()
def _loss(classifier: Classifier, fimg: Float[Tensor, "b *n d"], labels: Truth) -> float:
    return sum(term.item() for term in losses(classifier, fimg, labels).values())


def _set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """Set the learning rate of every group of parameters for a step; return it without their factors."""
    by_epoch = recipe.schedule == "epoch"
    rate = recipe.lr_at(epoch) if by_epoch else recipe.lr_at_step(step, steps)
    same = by_epoch and epoch < recipe.warmup_epochs  # a constant warm-up knows no factors, as in Dassl
    for parameters in optimizer.param_groups:
        parameters["lr"] = rate if same else rate * parameters["factor"]
    return rate
