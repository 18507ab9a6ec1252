"""Few-shot curves (the CoOp paper): train and test on all classes, with 1, 2, 4, 8 and 16 images each."""

from collections.abc import Iterator, Sequence

import pandas as pd

from cocoop.experiments.aggregate import Row, by_dataset_and_method, over_seeds, with_averages
from cocoop.experiments.cell import Cell
from cocoop.experiments.protocols import PROTOCOLS, Protocol, Settings, grid, unique
from cocoop.experiments.protocols.cross_dataset import whole
from cocoop.experiments.record import Record

NAME = "few-shot"
SHOTS = (1, 2, 4, 8, 16)


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for every dataset, method, seed and number of shots up to that of the settings.

    Numbers that no class has images for are left out, but for the highest: it takes all there are, and
    other protocols share its prompts.
    """
    return unique(
        cell
        for dataset in settings.datasets
        for shots in _shots(dataset, settings)
        for cell in grid(NAME, settings, dataset, "all", [whole(dataset)], shots=shots)
    )


def _shots(dataset: str, settings: Settings) -> Iterator[int]:
    most = settings.summaries[dataset].most if dataset in settings.summaries else settings.shots
    yield from (shots for shots in SHOTS if shots < min(most, settings.shots))
    yield settings.shots


def table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for every dataset and method, and average rows.

    Columns: dataset, method, one for every number of shots with its deviation, seeds. A method that learns
    nothing has the same value in all of them.
    """
    trained = {record.cell.training.shots for record in records} - {0}
    columns = {shots: column(shots) for shots in sorted(trained)} or {0: "accuracy"}
    rows: list[Row] = []
    for (dataset, method), group in by_dataset_and_method(records):
        learned = any(record.cell.training.shots for record in group)
        accuracies = {
            name: [r.accuracy for r in group if not learned or r.cell.training.shots == shots]
            for shots, name in columns.items()
        }
        if row := over_seeds({name: values for name, values in accuracies.items() if values}):
            rows.append({"dataset": dataset, "method": method, **row})
    return with_averages(rows, list(columns.values()))


def column(shots: int) -> str:
    """Return the name of a number of shots in the table."""
    return "1 shot" if shots == 1 else f"{shots} shots"


PROTOCOLS.register(NAME)(
    Protocol(
        title="Few-shot learning",
        paper="the CoOp paper's curves",
        order=5,
        about="Prompts are trained and tested on all classes of a dataset, with more and more labelled "
        "images of each class, the shots.",
        cells=cells,
        table=table,
        varies="shots",
    )
)
