"""Base-to-new generalization (Table 1): train on the first half of the classes, test on both halves.

Candidates are the names of the half that is tested. The harmonic mean H of a dataset is taken of its
seed means; the average row's H is taken of the two averages, as in the paper, and the mean of the
datasets' H stands beside it.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from cocoop.data.splits import Subset
from cocoop.experiments.aggregate import Row, by_dataset_and_method, harmonic_mean, over_seeds, with_averages
from cocoop.experiments.cell import Cell, Testing
from cocoop.experiments.protocols import PROTOCOLS, Protocol, Settings, grid, unique
from cocoop.experiments.record import Record

NAME = "base-to-new"
HALVES: tuple[Subset, Subset] = ("base", "new")


def tests(dataset: str) -> list[Testing]:
    """Return the test of each half, among its own names."""
    return [Testing(dataset=dataset, subset=half, candidates=half) for half in HALVES]


def cells(settings: Settings) -> list[Cell]:
    """Return two cells for every dataset, method and seed: one prompt, tested on base and on new."""
    return unique(
        cell
        for dataset in settings.datasets
        for cell in grid(NAME, settings, dataset, "base", tests(dataset))
    )


def table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for every dataset and method, then an average row for every method.

    Columns: dataset, method, base, base_std, new, new_std (percent; sample deviation over seeds), H, seeds,
    and, where there are several datasets, average rows with mean_H (the mean of the datasets' H) and
    datasets (how many they cover).
    """
    return with_averages(list(rows(records)), ("base", "new"))


def rows(records: Sequence[Record]) -> Iterator[Row]:
    """Yield the row of every dataset and method that has both halves."""
    for (dataset, method), group in by_dataset_and_method(records):
        halves: dict[str, list[float]] = {
            half: [record.accuracy for record in group if record.cell.testing.subset == half]
            for half in HALVES
        }
        if row := over_seeds(halves):
            row |= {"H": harmonic_mean(row["base"], row["new"])}
            yield {"dataset": dataset, "method": method, **row}


PROTOCOLS.register(NAME)(
    Protocol(
        title="Base-to-new generalization",
        paper="Table 1",
        order=1,
        new_names=True,
        about="Prompts are trained on half of the classes of a dataset, base, and tested on these and on the "
        "other half, new, which they have never seen. Candidates for the images of a half are the "
        "classes of that half. H is the harmonic mean of the two accuracies: it is high only where both are.",
        cells=cells,
        table=table,
    )
)
