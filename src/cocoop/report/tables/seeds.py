"""One row a record: the values of every seed behind the tables."""

from collections.abc import Iterable

import pandas as pd

from cocoop.experiments.record import Record
from cocoop.methods import facts_of
from cocoop.report.tables import tables
from cocoop.report.tables.results import Results
from cocoop.utils.display import harmless


def by_seed(results: Iterable[Results]) -> pd.DataFrame:
    """Return a row for every record, in the order of the tables, then by shots, seed and what was tested.

    Accuracy is in percent and unrounded, further metrics are between 0 and 1. Where methods were compared,
    "p" is that of the table's row. Texts are harmless in a spreadsheet.
    """
    rows = [_row(record) | _p(result, record) for result in results for record in in_order(result.records)]
    frame = pd.DataFrame([{harmless(name): _cell(value) for name, value in row.items()} for row in rows])
    return frame.astype({"shots": "Int64", "seed": "Int64"})


def in_order(records: Iterable[Record]) -> list[Record]:
    """Sort records by dataset, then method in the order of the tables, then shots and seed."""
    return sorted(
        records,
        key=lambda r: (
            r.cell.testing.dataset,
            tables.rank(r.cell.training.label),
            r.cell.training.shots,
            r.cell.training.seed,
            r.cell.testing.subset,
            r.cell.testing.split,
            r.cell.key,
        ),
    )


def _row(record: Record) -> dict[str, object]:
    train, test = record.cell.training, record.cell.testing
    return {
        "protocol": record.cell.protocol,
        "trained_on": f"{train.dataset} {train.subset}" if train.shots else "",
        "dataset": test.dataset,
        "split": test.split,
        "images": test.subset,
        "candidates": test.candidates,
        "method": train.label,
        "preset": train.preset,
        "backbone": train.backbone,
        "shots": train.shots if train.shots else None,
        "seed": train.seed if train.learns or facts_of(train.method).draws else None,
        "parameters": record.parameters,
        "correct": record.correct,
        "total": record.total,
        **record.metrics,
        "accuracy": record.accuracy,
        "order": record.order,
        "seconds_per_step": record.seconds_per_step,
        "record": record.cell.key,
    }


def _p(result: Results, record: Record) -> dict[str, object]:
    if result.p is None:
        return {}
    frame = result.frame
    label = record.cell.training.label
    row = frame["dataset"].eq(result.row_of(record) or "") & frame["method"].eq(label)
    return {tables.P_VALUE: next(iter(frame.loc[row, tables.P_VALUE]), None)}


def _cell(value: object) -> object:
    return harmless(value) if isinstance(value, str) else value
