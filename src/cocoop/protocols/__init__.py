"""One file a protocol: settings to cells, and records to a table. Both are pure functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from cocoop.cells import Cell
from cocoop.errors import UsageError
from cocoop.precision import Precision
from cocoop.registry import Registry
from cocoop.settings import MethodChoice
from cocoop.store import Record


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
    """

    datasets: tuple[str, ...]
    methods: tuple[MethodChoice, ...]
    seeds: tuple[int, ...]
    shots: int
    backbone: str
    weights: str
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for name in ("datasets", "methods", "seeds"):
            if not getattr(self, name):
                raise UsageError(f"give at least one of: {name}")
        if self.shots < 1:
            raise UsageError(f"shots must be at least 1, not {self.shots}")
        if any(seed < 0 for seed in self.seeds):
            raise UsageError("seeds are numbers from 0 upwards")


@dataclass(frozen=True)
class Protocol:
    """What a module in this folder registers.

    Attributes:
        title: for headings.
        cells: settings to the cells to run.
        table: records to the protocol's table: numbers unrounded, "X_std" beside "X" where it has one.
    """

    title: str
    cells: Callable[[Settings], list[Cell]]
    table: Callable[[Sequence[Record]], pd.DataFrame]


PROTOCOLS: Registry[Protocol] = Registry("protocol", __name__)
