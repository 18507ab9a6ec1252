"""What would be run: every setting resolved, and what it will cost by a step measured here."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from cocoop.backbone import Backbone
from cocoop.cells import Cell, Training
from cocoop.data import Dataset, open_dataset
from cocoop.data.images import FLIP, SCALE
from cocoop.data.splits import draw, select, subset_labels
from cocoop.logits import Classifier
from cocoop.methods import METHODS
from cocoop.settings import MethodChoice, from_dict, presets
from cocoop.store import Store

TESTED = 4  # images in the measured step of a test
IMAGES = 16  # images in the measured pass through the image tower
MOST_RUNS, LONG_ENOUGH = 5, 1.0  # of a timed step: how often, and seconds after which no further one


@dataclasses.dataclass
class Cost:
    """The work of one method.

    Attributes:
        label: of the method.
        trainings: prompts to train.
        steps: of the optimiser.
        trained: text sequences of all steps: a step has one for each class, and for each image as well
            where the context depends on it.
        tested: text sequences of all tests.
        seconds: of the text side, by a measured step.
    """

    label: str
    trainings: int = 0
    steps: int = 0
    trained: int = 0
    tested: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What the missing cells cost: each method's text side, and the images they all share.

    Attributes:
        costs: of the methods.
        views: images to encode.
        view_seconds: for encoding them, without reading files.
    """

    costs: tuple[Cost, ...]
    views: int
    view_seconds: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.view_seconds + sum(cost.seconds for cost in self.costs)


def resolved(choice: MethodChoice, clip: Backbone) -> dict[str, str]:
    """Return every setting of a method by the name that --set takes, and what the code fixes."""
    found = {"preset": f"{choice.preset} ({presets()[choice.preset][1].source})"}
    found |= {name: _value(value) for name, value in dataclasses.asdict(choice.config).items()}
    if not choice.recipe:
        return found | {"training": "nothing is learned"}
    method = METHODS.get(choice.method)(choice.config, clip, template="{}", n_classes=1, seed=0)
    rates = [choice.recipe.lr_at(epoch) for epoch in range(choice.recipe.epochs)]
    shown = rates if len(rates) <= 10 else [*rates[:2], rates[-1]]
    sizes = [f"{name} {tuple(value.shape)}" for name, value in method.named_parameters()]
    return found | {
        **{name: _value(value) for name, value in dataclasses.asdict(choice.recipe).items()},
        "optimizer": "SGD, no dampening, no Nesterov",
        "schedule": "constant warm-up, then cosine; a step an epoch",
        "rates": ", ".join(f"{rate:.5g}" for rate in shown)
        + (" (first two, last)" if shown != rates else ""),
        "loss": "cross-entropy over the training classes",
        "learned": f"{sum(map(torch.numel, method.parameters())):,} numbers in fp32: {', '.join(sizes)}",
    }


def common(clip: Backbone, seeds: Sequence[int], shots: int) -> dict[str, str]:
    """Return the settings that all methods share."""
    pixels = clip.preprocess
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (pixels.mean, pixels.std))
    (low, high), kind = SCALE, pixels.interpolation
    return {
        "backbone": f"{clip.name}, weights {clip.weights_digest[:12]}",
        "sizes": f"image {pixels.size}, embedding {clip.embed_dim}, text width {clip.width}, "
        f"context {clip.context_length}",
        "precision": f"backbone {clip.precision}, learned fp32",
        "device": str(clip.device),
        "logit_scale": f"{clip.logit_scale:.6g}",
        "seeds": ", ".join(map(str, seeds)),
        "shots": f"{shots} a class, drawn over all classes before they are cut",
        "train view": f"random crop, area {low:g} to {high:g}, to {pixels.size}, {kind}; flip {FLIP:g}",
        "test view": f"{pixels.resize_mode} edge to {pixels.size}, {kind}; centre crop",
        "normalised": f"mean {mean}, std {std}",
        "tested": "after the last step, never selected on test images",
    }


def estimate(
    cells: Sequence[Cell], store: Store, clip: Backbone, root: str | Path | None, budget: int | None = None
) -> Estimate:
    """Count the work of the cells that are not finished, and time one step of each method on this machine.

    The step that is timed is the one with the most classes; others are taken to cost in proportion to
    their text sequences.
    """
    opened = lru_cache(maxsize=None)(partial(open_dataset, root=root))
    costs: dict[str, Cost] = {}
    views: dict[tuple[Any, ...], int] = {}
    largest: dict[str, _Step] = {}
    trained = {cell.training.key for cell in cells if store.prompt_path(cell.training).exists()}
    for cell in cells:
        training, testing = cell.training, cell.testing
        cost = costs.setdefault(training.label, Cost(training.label))
        tests, names = _tests(cell, opened(testing.dataset))
        step = _Step(training, clip, names, opened(testing.dataset).template, budget)
        if training.label not in largest or len(names) > len(largest[training.label].names):
            largest[training.label] = step
        cost.tested += step.sequences(tests, len(names))
        views["test", testing.dataset, testing.subset, testing.split] = tests
        if training.recipe and training.key not in trained:
            trained.add(training.key)
            shots, classes = _shots(training, opened(training.dataset))
            epochs, batch = training.recipe["epochs"], training.recipe["batch_size"]
            steps = epochs * max(1, shots // batch)
            cost.trainings += 1
            cost.steps += steps
            cost.trained += steps * step.sequences(min(batch, shots), classes)
            drawn = ("train", training.dataset, training.subset, training.shots, training.seed)
            views[drawn] = max(views.get(drawn, 0), epochs * shots)
    for cost in costs.values():
        train, test = largest[cost.label].time()
        cost.seconds = train * cost.trained + test * cost.tested
    count = sum(views.values())
    return Estimate(tuple(costs.values()), count, count * _image_seconds(clip))


def _tests(cell: Cell, dataset: Dataset) -> tuple[int, list[str]]:
    """Return the number of test images and the candidates of a cell."""
    labels = subset_labels(range(len(dataset.class_names)), cell.testing.subset)
    names = [dataset.class_names[label] for label in labels]
    return len(select(dataset.items(cell.testing.split), labels)), names


def _shots(training: Training, dataset: Dataset) -> tuple[int, int]:
    """Return the number of images and of classes of a training."""
    labels = subset_labels(range(len(dataset.class_names)), training.subset)
    return len(select(draw(dataset.splits, training.shots, training.seed)["train"], labels)), len(labels)


class _Step:
    """One step of a method over a list of names: its text sequences, and how long it takes."""

    def __init__(
        self, training: Training, clip: Backbone, names: Sequence[str], template: str, budget: int | None
    ) -> None:
        cls = METHODS.get(training.method)
        config = from_dict(cls.config_type, training.config)
        self._method = cls(config, clip, template=template, n_classes=len(names), seed=0).to(clip.device)
        self._batch = int(training.recipe["batch_size"]) if training.recipe else 1
        self.names, self._clip, self._budget = names, clip, budget
        two = torch.zeros(2, clip.embed_dim, device=clip.device)
        self._by_image = len(self._method(two)) == 2

    def sequences(self, images: int, classes: int) -> int:
        """Prompts through the text tower for these images against so many classes."""
        return len(self._method.prompts) * classes * (images if self._by_image else 1)

    def time(self) -> tuple[float, float]:
        """Return seconds a text sequence, in training and in testing."""
        classifier = Classifier(self._clip, self._method, self.names, self._budget)

        def train(count: int) -> None:
            logits = classifier(self._images(count))
            if logits.requires_grad:
                F.cross_entropy(logits, torch.zeros(count, dtype=torch.long, device=logits.device)).backward()

        def test(count: int) -> None:
            classifier.predict(self._images(count))

        train_seconds, test_seconds = _best(train, self._batch), _best(test, TESTED)
        classes = len(self.names)
        return (
            train_seconds / self.sequences(self._batch, classes),
            test_seconds / self.sequences(TESTED, classes),
        )

    def _images(self, count: int) -> torch.Tensor:
        drawn = torch.randn(count, self._clip.embed_dim, generator=torch.Generator().manual_seed(0))
        return F.normalize(drawn, dim=-1).to(self._clip.device)


def _image_seconds(clip: Backbone) -> float:
    size = clip.preprocess.size
    return _best(lambda count: clip.encode_image(torch.zeros(count, 3, size, size)), IMAGES) / IMAGES


def _best(run: Callable[[int], object], count: int) -> float:
    """Return the least seconds of a few runs after a warm-up: the one that others disturbed least."""
    run(count)
    seconds: list[float] = []
    while len(seconds) < MOST_RUNS and sum(seconds) < LONG_ENOUGH:
        start = time.perf_counter()
        run(count)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Return about how long that is, in words."""
    if seconds < 1:
        return "under a second"
    if seconds < 60:
        return f"about {seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes} min" if hours < 48 else f"about {hours // 24} days {hours % 24} h"


def in_words(estimate: Estimate) -> Iterator[str]:
    """Yield lines that say what the missing cells cost."""
    for cost in estimate.costs:
        trained = f"{cost.trainings:,} trainings, {cost.steps:,} steps, {cost.trained:,} text sequences; "
        yield (
            f"{cost.label}: {trained if cost.trainings else ''}tests of {cost.tested:,} text sequences; "
            f"{duration(cost.seconds)}"
        )
    images = f"images: {estimate.views:,} views to encode, fewer where cached"
    yield f"{images}; {duration(estimate.view_seconds)}"
    yield (
        f"in all {duration(estimate.seconds)} on this machine, by a step of each method timed just now; "
        "reading images comes on top"
    )
