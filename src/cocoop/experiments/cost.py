"""What cells will cost: steps and text sequences counted, time from a step measured here."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import synchronize
from cocoop.data import Dataset, open_dataset
from cocoop.data.splits import draw, select, subset_labels
from cocoop.experiments.cell import Cell, Training
from cocoop.experiments.store import Store
from cocoop.methods import METHODS, build
from cocoop.methods._settings import from_dict
from cocoop.training.classifier import Classifier

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
        items, names = testing.choose(opened(testing.dataset))
        step = _Step(training, clip, names, opened(testing.dataset).template, budget)
        if training.label not in largest or len(names) > len(largest[training.label].names):
            largest[training.label] = step
        cost.tested += step.sequences(len(items), len(names))
        views["test", testing.dataset, testing.subset, testing.split] = len(items)
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


def _shots(training: Training, dataset: Dataset) -> tuple[int, int]:
    """Return the number of images and of classes of a training."""
    labels = subset_labels(range(len(dataset.class_names)), training.subset)
    return len(select(draw(dataset.splits, training.shots, training.seed)["train"], labels)), len(labels)


class _Step:
    """One step of a method over a list of names: its text sequences, and how long it takes."""

    def __init__(
        self, training: Training, clip: Backbone, names: Sequence[str], template: str, budget: int | None
    ) -> None:
        config = from_dict(METHODS.get(training.method).config_type, training.config)
        self._method = build(training.method, config, clip, template=template, n_classes=len(names), seed=0)
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
        synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
