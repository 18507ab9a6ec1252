"""How far the cells of a run folder are: done, running, failed or missing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rich.console import Console
from rich.table import Table

from cocoop.errors import CocoopError
from cocoop.experiments.cell import Cell
from cocoop.experiments.claims import Work
from cocoop.experiments.store import Store
from cocoop.utils.display import readable_json

State = Literal["done", "running", "failed", "missing"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class CellStatus:
    """How far one cell is.

    Attributes:
        note: why it failed, or what is going on; empty where its prompt is worked at for another cell.
        by: the process that runs it, and since when.
    """

    cell: Cell
    state: State
    note: str = ""
    by: str = ""


def survey(cells: Iterable[Cell], store: Store) -> list[CellStatus]:
    """Return how far each cell is; those whose training somebody has claimed are running."""
    works: dict[str, Work | None] = {}

    def status_of(cell: Cell) -> CellStatus:
        if store.has(cell):
            return CellStatus(cell, "done")
        key = cell.training.key
        if key not in works:
            works[key] = store.claims.work(cell.training)
        if failure := store.claims.failure(cell):
            return CellStatus(cell, "failed", failure.message)
        if work := works[key]:
            by = f"{work.process} since {work.since}"
            return CellStatus(cell, "running", work.words if work.cell == cell.key else "", by)
        return CellStatus(cell, "missing")

    return [status_of(cell) for cell in cells]


def show(folder: Path, as_json: bool, console: Console) -> None:
    """Print how far the cells of a folder are that were ever asked for, as a table or as JSON.

    Raises:
        CocoopError: nothing was ever run there.
    """
    store = Store(folder)
    requests = store.claims.requests()
    cells = {cell.key: cell for request in requests for cell in request.cells}
    cells |= {record.cell.key: record.cell for record in store.records() if record.cell.key not in cells}
    if not cells:
        raise CocoopError(f"nothing was run in {folder}; begin with: cocoop run base-to-new --out {folder}")
    statuses = survey(cells.values(), store)
    unfinished = {status.cell.key for status in statuses if status.state in ("failed", "missing")}
    commands = [
        request.command
        for request in requests
        if request.command and any(cell.key in unfinished for cell in request.cells)
    ]
    if as_json:
        console.print(readable_json(_plain(statuses, commands), indent=2), soft_wrap=True, highlight=False)
        return
    console.print(_table(statuses))
    for status in statuses:
        if status.note and status.state in ("running", "failed"):
            words = f"{status.state}: {status.cell.title}: {status.note}"
            words += f", by {status.by}" if status.by else ""
            console.print(words, soft_wrap=True, highlight=False)
    for command in commands:
        console.print(f"to finish: {command}", soft_wrap=True, highlight=False)


def _table(statuses: Sequence[CellStatus]) -> Table:
    table = Table("cells", *STATES, show_footer=True)
    groups: dict[str, dict[str, Counter[State]]] = {}
    for status in statuses:
        cell = status.cell
        rows = groups.setdefault(cell.protocol, {})
        rows.setdefault(f"  {cell.testing.dataset}, {cell.training.label}", Counter())[status.state] += 1
    for protocol, rows in groups.items():
        table.add_row(protocol)
        for words, counts in rows.items():
            table.add_row(words, *(str(counts[state] or "") for state in STATES))
        table.add_section()
    total = Counter(status.state for status in statuses)
    table.columns[0].footer = f"{len(statuses)} in all"
    for column, state in zip(table.columns[1:], STATES, strict=True):
        column.footer, column.justify = str(total[state]), "right"
    return table


def _plain(statuses: Sequence[CellStatus], commands: Sequence[str]) -> dict[str, object]:
    total = Counter(status.state for status in statuses)
    return {
        "counts": {state: total[state] for state in STATES},
        "commands": list(commands),
        "cells": [
            {
                "state": status.state,
                "note": status.note,
                "by": status.by,
                "key": status.cell.key,
                "protocol": status.cell.protocol,
                "method": status.cell.training.label,
                "seed": status.cell.training.seed,
                "shots": status.cell.training.shots,
                "backbone": status.cell.training.backbone,
                "trained_on": status.cell.training.dataset,
                **status.cell.testing.model_dump(),
            }
            for status in statuses
        ],
    }
