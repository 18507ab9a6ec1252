"""Class-incremental test (Table 4): train on the base classes, test among base and new names together."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import pandas as pd

from cocoop.experiments.aggregate import Row, by_dataset_and_method, over_seeds, with_averages
from cocoop.experiments.cell import Cell, Testing
from cocoop.experiments.protocols import PROTOCOLS, Protocol, Settings, grid, unique
from cocoop.experiments.protocols.base_to_new import HALVES
from cocoop.experiments.record import Record

NAME = "class-incremental"


def cells(settings: Settings) -> list[Cell]:
    """Return two cells for every dataset, method and seed: images of each half, among all names."""
    return unique(
        cell
        for dataset in settings.datasets
        for cell in grid(NAME, settings, dataset, "base", _tests(dataset))
    )


def _tests(dataset: str) -> list[Testing]:
    return [Testing(dataset=dataset, subset=half, candidates="all") for half in HALVES]


def table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for every dataset and method, and average rows.

    Columns: dataset, method, all (over the images of both halves, as in the paper), base and new (over the
    images of each), their deviations, seeds.
    """
    return with_averages(list(_rows(records)), ("all", *HALVES))


def _rows(records: Sequence[Record]) -> Iterator[Row]:
    for (dataset, method), group in by_dataset_and_method(records):
        seeds: defaultdict[int, dict[str, Record]] = defaultdict(dict)
        for record in group:
            seeds[record.cell.training.seed][record.cell.testing.subset] = record
        both = [halves for halves in seeds.values() if set(halves) == set(HALVES)]
        accuracies = {"all": [_joint(list(halves.values())) for halves in both]}
        accuracies |= {half: [halves[half].accuracy for halves in both] for half in HALVES}
        if row := over_seeds(accuracies):
            yield {"dataset": dataset, "method": method, **row}


def _joint(records: Sequence[Record]) -> float:
    return 100 * sum(record.correct for record in records) / sum(record.total for record in records)


PROTOCOLS.register(NAME)(
    Protocol(
        title="Class-incremental test",
        paper="Table 4",
        order=4,
        new_names=True,
        about="The prompts of base-to-new, trained on the base classes, are tested among the names of base "
        "and new classes together, so an image of a new class can be classified as a base one, and vice "
        "versa. The paper reports the accuracy over all test images; that over the images of each half "
        "stands beside it.",
        cells=cells,
        table=table,
    )
)
