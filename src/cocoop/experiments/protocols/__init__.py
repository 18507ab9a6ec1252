"""One file a protocol: settings to cells, and records to a table. Both are pure functions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from cocoop.backbones.precision import Precision
from cocoop.data.splits import Subset
from cocoop.errors import UsageError
from cocoop.experiments.cell import Cell, Testing, training
from cocoop.experiments.record import Record
from cocoop.methods._settings import MethodChoice
from cocoop.utils.registry import Registry


@dataclass(frozen=True)
class DatasetSummary:
    """What protocols ask about a dataset.

    Attributes:
        fewest: training images of its smallest class; 0 where it is for testing only.
        most: training images of its largest class.
        domains: its further lists of test images, shifted domains of the same classes.
        room: context vectors that fit into the text tower's window beside its longest class name.
    """

    fewest: int
    most: int
    domains: tuple[str, ...]
    room: int


@dataclass(frozen=True)
class Settings:
    """What a protocol is run with.

    Attributes:
        datasets: names of the datasets.
        methods: the methods with their settings.
        seeds: one training each.
        shots: training images a class.
        backbone: name of the frozen CLIP.
        weights: digest of its weights.
        precision: of its matrix products.
        source: the dataset that protocols of transfer train on; None for their own choice.
        sample: test images of every test, drawn at random; 0 for all.
        summaries: of the datasets, by name.
    """

    datasets: tuple[str, ...]
    methods: tuple[MethodChoice, ...]
    seeds: tuple[int, ...]
    shots: int
    backbone: str
    weights: str
    precision: Precision = "fp32"
    source: str | None = None
    sample: int = 0
    summaries: Mapping[str, DatasetSummary] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("datasets", "methods", "seeds"):
            if not getattr(self, name):
                raise UsageError(f"give at least one of: {name}")
        if self.sample < 0:
            raise UsageError(f"a sample has at least 1 image, not {self.sample}; 0 for all")
        if self.shots < 1:
            raise UsageError(f"shots must be at least 1, not {self.shots}")
        if any(seed < 0 for seed in self.seeds):
            raise UsageError("seeds are numbers from 0 upwards")


@dataclass(frozen=True)
class Protocol:
    """What a module in this folder registers.

    Attributes:
        title: for headings.
        paper: where the paper has it.
        order: place among the protocols, in the order of the paper.
        about: what it does, in a few sentences for a reader of the results.
        cells: settings to the cells to run; raises UsageError where they make no sense for it.
        table: records, one label a method with its settings, to the protocol's table: numbers unrounded,
            "X_std" beside "X" where it has one.
        varies: what is compared: methods, or the same methods by shots or by their settings.
        new_names: whether it tests on class names that were not trained on.
    """

    title: str
    paper: str
    about: str
    cells: Callable[[Settings], list[Cell]]
    table: Callable[[Sequence[Record]], pd.DataFrame]
    varies: Literal["methods", "shots", "settings"] = "methods"
    new_names: bool = False
    order: int = 100


# What the CoCoOp paper compares, with so many images a class.
PAPER_METHODS = ("zeroshot", "coop", "cocoop")
PAPER_SHOTS = 16

PROTOCOLS: Registry[Protocol] = Registry("protocol", __name__)


def grid(
    protocol: str,
    settings: Settings,
    dataset: str,
    subset: Subset,
    tests: Iterable[Testing],
    *,
    methods: Sequence[MethodChoice] = (),
    shots: int | None = None,
) -> Iterator[Cell]:
    """Yield the cells of one dataset: every method, trained with every seed, tested in every way.

    Args:
        protocol: registered name.
        settings: of the run.
        dataset: trained on.
        subset: classes trained on.
        tests: what each prompt is tested on.
        methods: instead of those of the settings.
        shots: instead of those of the settings.
    """
    tests = [test.model_copy(update={"sample": settings.sample}) for test in tests]
    for choice in methods or settings.methods:
        for seed in settings.seeds:
            for test in tests:
                trained = training(
                    choice.on(dataset if choice.facts.learns else test.dataset),
                    backbone=settings.backbone,
                    weights=settings.weights,
                    precision=settings.precision,
                    dataset=dataset,
                    subset=subset,
                    shots=shots or settings.shots,
                    seed=seed,
                )
                yield Cell(protocol=protocol, training=trained, testing=test)


def unique(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells without repeats: where nothing is learned, seeds and shots make no difference."""
    return list({cell.key: cell for cell in cells}.values())
