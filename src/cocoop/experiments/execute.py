"""From a list of cells to their records: in this process, in several, or on a cluster, with progress."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cocoop.backbones.clip import Backbone
from cocoop.errors import CocoopError, UsageError
from cocoop.experiments.cell import Cell
from cocoop.experiments.processes import run_in_processes
from cocoop.experiments.ray import run_on_ray
from cocoop.experiments.run_cell import Setup
from cocoop.experiments.run_cells import run
from cocoop.experiments.status import survey
from cocoop.experiments.store import Store
from cocoop.training.distributed import ALONE, Team
from cocoop.utils.display import on_one_line
from cocoop.utils.files import sweep

FAILURES_SHOWN = 5


def execute(
    cells: Sequence[Cell],
    setup: Setup,
    backbone: Backbone | None,
    console: Console,
    workers: str = "1",
    command: str | None = None,
    team: Team = ALONE,
) -> None:
    """Run the cells that have no record yet; those that failed before are tried again.

    Args:
        cells: to bring to a record.
        setup: how to run them.
        backbone: the setup's, where it is loaded already.
        console: where progress goes.
        workers: a number of processes, "ray" or "ray:ADDRESS".
        command: what finishes these cells, for `cocoop status`.
        team: led by this process.

    Raises:
        UsageError: `workers` is none of that.
        CocoopError: the folder cannot be written.
    """
    count, address = _parse(workers)
    store = Store(setup.folder)
    missing = [cell for cell in cells if not store.has(cell)]
    if not missing:
        console.print(f"all {len(cells)} cells are finished in {store.folder}; nothing to run")
        return
    start = time.monotonic()
    try:
        sweep(store.folder)
        store.ledger.plan(cells, command)
        for cell in missing:
            store.ledger.forgive(cell)
        with _watching(missing, store, console) as watch:
            if not count:
                run_on_ray(missing, setup, address, watch.look)
            elif count == 1:
                run(missing, setup, watch.tell, backbone, team)
            else:
                codes = run_in_processes(missing, setup, count, watch.look)
                if any(codes) and not all(map(store.settled, missing)):
                    raise CocoopError(
                        f"worker processes ended early, with exit codes {codes} (-9: killed, often for want "
                        "of memory); what was finished is kept, and the same command goes on from there"
                    )
    except OSError as error:
        raise CocoopError(f"cannot write to {store.folder}: {error}; what was finished is kept") from error
    done, took = sum(map(store.has, missing)), time.monotonic() - start
    console.print(f"{done} of {len(cells)} cells run in {took:.0f} s, records in {store.folder}")


def complain(cells: Sequence[Cell], store: Store) -> None:
    """Raise CocoopError, naming what failed and why, where cells have no record."""
    left = [standing for standing in survey(cells, store) if standing.state != "done"]
    if not left:
        return
    lines = [
        f"{standing.cell.title}: {standing.note or standing.state}" for standing in left[:FAILURES_SHOWN]
    ]
    more = [f"and {len(left) - FAILURES_SHOWN} more"] if len(left) > FAILURES_SHOWN else []
    raise CocoopError(
        "\n  ".join([f"{len(left)} of {len(cells)} cells have no record:", *lines, *more])
        + f"\nThe same command tries them again; all about them: cocoop status {store.folder}"
    )


def _parse(workers: str) -> tuple[int, str | None]:
    """Return the number of processes, or 0 and the address of a Ray cluster, if one is named."""
    kind, _, address = workers.partition(":")
    if kind == "ray":
        return 0, address or None
    if not (workers.isdecimal() and int(workers)):
        raise UsageError(f"--workers takes a number of processes, ray or ray:ADDRESS, not {workers!r}")
    return int(workers), None


class _Watch:
    """A bar over the cells to run, fed by word from this process or by looking at the folder."""

    def __init__(self, bar: Progress, cells: Sequence[Cell], store: Store) -> None:
        self._bar = bar
        self._cells = cells
        self._store = store
        self._task = bar.add_task("starting", total=len(cells))

    def tell(self, cell: Cell, doing: str, share: float) -> None:
        """Hear from this process what it is at."""
        if doing == "done":
            self._bar.advance(self._task)
        else:
            words = on_one_line(f"{cell.title}, {doing} ({share:.0%})")
            self._bar.update(self._task, description=words)

    def look(self) -> None:
        """See in the folder what other processes have done."""
        found = survey(self._cells, self._store)
        settled = sum(standing.state in ("done", "failed") for standing in found)
        trainings = {standing.cell.training.key for standing in found if standing.state == "running"}
        running = [standing for standing in found if standing.state == "running" and standing.note]
        words = [f"{standing.cell.title}, {standing.note}" for standing in running[:1]]
        what = ", ".join([f"{len(trainings)} at work", *words])
        self._bar.update(self._task, completed=settled, description=on_one_line(what))


@contextmanager
def _watching(cells: Sequence[Cell], store: Store, console: Console) -> Iterator[_Watch]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=console, speed_estimate_period=600) as bar:
        watch = _Watch(bar, cells, store)
        yield watch
        bar.update(bar.task_ids[0], description="done")
