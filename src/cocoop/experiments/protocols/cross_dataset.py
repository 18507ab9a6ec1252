"""Cross-dataset transfer (Table 2): train on all classes of one dataset, test on the others."""

from collections.abc import Iterator, Sequence

import pandas as pd

from cocoop.errors import UsageError
from cocoop.experiments.aggregate import Row, grouped, over_seeds, with_averages
from cocoop.experiments.cell import Cell, Testing
from cocoop.experiments.protocols import PROTOCOLS, Protocol, Settings, grid, unique
from cocoop.experiments.record import Record

NAME = "cross-dataset"
PREFERRED = "imagenet"  # the paper's source


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for the source and for every other dataset, method and seed.

    The source is that of the settings, else ImageNet where it is given, else the first dataset.

    Raises:
        UsageError: there is no dataset besides the source.
    """
    given = settings.datasets
    source = settings.source or (PREFERRED if PREFERRED in given else given[0])
    targets = [dataset for dataset in given if dataset != source]
    if not targets:
        raise UsageError(
            f"{NAME} trains on one dataset and tests on others; besides {source}, give at least one more"
        )
    return unique(grid(NAME, settings, source, "all", map(whole, (source, *targets))))


def whole(dataset: str, split: str = "test") -> Testing:
    """Return the test of all images of a list among all names."""
    return Testing(dataset=dataset, subset="all", candidates="all", split=split)


def table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for every target and method, and average rows.

    Columns: dataset ("source → target"), method, source and target (accuracy on each), their deviations,
    seeds.
    """
    return with_averages(list(_rows(records)), ("source", "target"))


def _rows(records: Sequence[Record]) -> Iterator[Row]:
    for (source, method), group in grouped(
        records, lambda record: (record.cell.training.dataset, record.cell.training.label)
    ):
        at_home = [record.accuracy for record in group if _is_home(record.cell)]
        away = [record for record in group if not _is_home(record.cell)]
        for target, tested in grouped(away, lambda record: _target(record.cell)):
            accuracies = {"source": at_home, "target": [record.accuracy for record in tested]}
            if row := over_seeds(accuracies):
                yield {"dataset": f"{source} → {target}", "method": method, **row}


def _is_home(cell: Cell) -> bool:
    """Whether a cell is tested on the images of its source."""
    return cell.testing.dataset == cell.training.dataset and cell.testing.split == "test"


def _target(cell: Cell) -> str:
    """Return a name for what is tested on: a dataset, or a further list of the source."""
    test = cell.testing
    return test.split if test.dataset == cell.training.dataset else test.dataset


PROTOCOLS.register(NAME)(
    Protocol(
        title="Cross-dataset transfer",
        paper="Table 2",
        order=2,
        new_names=True,
        about="Prompts are trained on all classes of one dataset, the source, and tested as they are on the "
        "other datasets, the targets, whose classes they have never seen.",
        cells=cells,
        table=table,
    )
)
