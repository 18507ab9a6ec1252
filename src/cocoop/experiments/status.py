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
class Standing:
    """How far one cell is.

    Attributes:
        note: why it failed, or what is going on; empty where its prompt is worked at for another cell.
        by: the process that runs it, and since when.
    """

    cell: Cell
    state: State
    note: str = ""
    by: str = ""


def survey(cells: Iterable[Cell], store: Store) -> list[Standing]:
    """Return how far each cell is; those whose training somebody has claimed are running."""
    works: dict[str, Work | None] = {}

    def look(cell: Cell) -> Standing:
        if store.has(cell):
            return Standing(cell, "done")
        key = cell.training.key
        if key not in works:
            works[key] = store.claims.work(cell.training)
        if failure := store.claims.failure(cell):
            return Standing(cell, "failed", failure.message)
        if work := works[key]:
            by = f"{work.process} since {work.since}"
            return Standing(cell, "running", work.words if work.cell == cell.key else "", by)
        return Standing(cell, "missing")

    return [look(cell) for cell in cells]


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
    standings = survey(cells.values(), store)
    unfinished = {standing.cell.key for standing in standings if standing.state in ("failed", "missing")}
    commands = [
        request.command
        for request in requests
        if request.command and any(cell.key in unfinished for cell in request.cells)
    ]
    if as_json:
        console.print(readable_json(_plain(standings, commands), indent=2), soft_wrap=True, highlight=False)
        return
    console.print(_table(standings))
    for standing in standings:
        if standing.note and standing.state in ("running", "failed"):
            words = f"{standing.state}: {standing.cell.title}: {standing.note}"
            words += f", by {standing.by}" if standing.by else ""
            console.print(words, soft_wrap=True, highlight=False)
    for command in commands:
        console.print(f"to finish: {command}", soft_wrap=True, highlight=False)


def _table(standings: Sequence[Standing]) -> Table:
    table = Table("cells", *STATES, show_footer=True)
    groups: dict[str, dict[str, Counter[State]]] = {}
    for standing in standings:
        cell = standing.cell
        rows = groups.setdefault(cell.protocol, {})
        rows.setdefault(f"  {cell.testing.dataset}, {cell.training.label}", Counter())[standing.state] += 1
    for protocol, rows in groups.items():
        table.add_row(protocol)
        for words, counts in rows.items():
            table.add_row(words, *(str(counts[state] or "") for state in STATES))
        table.add_section()
    total = Counter(standing.state for standing in standings)
    table.columns[0].footer = f"{len(standings)} in all"
    for column, state in zip(table.columns[1:], STATES, strict=True):
        column.footer, column.justify = str(total[state]), "right"
    return table


def _plain(standings: Sequence[Standing], commands: Sequence[str]) -> dict[str, object]:
    total = Counter(standing.state for standing in standings)
    return {
        "counts": {state: total[state] for state in STATES},
        "commands": list(commands),
        "cells": [
            {
                "state": standing.state,
                "note": standing.note,
                "by": standing.by,
                "key": standing.cell.key,
                "protocol": standing.cell.protocol,
                "method": standing.cell.training.label,
                "seed": standing.cell.training.seed,
                "shots": standing.cell.training.shots,
                "backbone": standing.cell.training.backbone,
                "trained_on": standing.cell.training.dataset,
                **standing.cell.testing.model_dump(),
            }
            for standing in standings
        ],
    }
