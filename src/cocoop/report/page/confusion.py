"""The most confused classes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from cocoop.errors import CocoopError
from cocoop.experiments.aggregate import grouped
from cocoop.experiments.cell import Testing
from cocoop.experiments.record import Predictions, Record
from cocoop.experiments.store import Store
from cocoop.report.tables.blocks import newest
from cocoop.report.tables.results import unseen_tests
from cocoop.report.tables.tables import rank

SHOWN = 6  # pairs a test

Pair = tuple[str, str]  # true name, predicted name


@dataclass(frozen=True)
class Confusion:
    """The pairs of one test.

    Attributes:
        testing: what was tested.
        method: label of the method whose worst pairs they are.
        methods: labels that are compared.
        pairs: each with the share of its class's images that every method confuses so.
    """

    testing: Testing
    method: str
    methods: tuple[str, ...]
    pairs: tuple[tuple[Pair, tuple[float, ...]], ...]


def confusions(store: Store, records: Sequence[Record]) -> Iterator[Confusion]:
    """Yield the most confused pairs of every test: those of the newest method.

    Shares are over the images of the true class and all seeds. Tests whose predictions are missing or damaged
    are left out.
    """
    for testing, group in unseen_tests(records):
        shares: dict[str, dict[Pair, float]] = {}
        try:
            for label, seeds in grouped(group, lambda record: record.cell.training.label):
                shares[label] = _shares([(store.predictions(r), r.class_names) for r in seeds])
        except CocoopError:
            continue
        methods = sorted(shares, key=rank)
        main = newest(pd.DataFrame({"method": methods})) or methods[-1]
        worst = sorted(shares[main].items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
        pairs = tuple((pair, tuple(shares[label].get(pair, 0.0) for label in methods)) for pair, _ in worst)
        yield Confusion(testing, main, tuple(methods), pairs)


def _shares(tests: Sequence[tuple[Predictions, Sequence[str]]]) -> dict[Pair, float]:
    """Return which share of the images of a class is predicted as another, over several seeds."""
    confused: Counter[Pair] = Counter()
    images: Counter[str] = Counter()
    for predictions, class_names in tests:
        names = [name.replace("_", " ") for name in class_names]
        for predicted, truth in zip(
            predictions.classes[:, 0].tolist(), predictions.labels.tolist(), strict=True
        ):
            confused[names[truth], names[predicted]] += 1
            images[names[truth]] += 1
    return {pair: count / images[pair[0]] for pair, count in confused.items() if pair[0] != pair[1]}
