"""Cells to records: claim what is free, run it, write down what fails. Finished cells are never run again."""

import time
from collections.abc import Iterable, Sequence

from cocoop.backbones.clip import Backbone
from cocoop.errors import CocoopError
from cocoop.experiments.cell import Cell
from cocoop.experiments.claims import Notify
from cocoop.experiments.run_cell import Runner, Setup
from cocoop.training.distributed import SINGLE, Group

WAIT = 0.5  # seconds until a training that another process is at is looked at again


def run_cells(
    cells: Sequence[Cell],
    setup: Setup,
    notify: Notify = lambda cell, doing, share: None,
    backbone: Backbone | None = None,
    group: Group = SINGLE,
) -> None:
    """Bring every cell to a record or to a failure in the run folder; the others go on when one fails.

    Cells of one training share its prompt, which is kept in the store too. They are claimed together, so
    any number of processes may run the same cells. What another one is at is waited for, and taken over
    if that process ends without finishing it.

    Args:
        cells: those that are finished, or failed before, are passed over.
        setup: how to run them.
        notify: called with what is going on.
        backbone: the setup's, where it is loaded already.
        group: of which this process is the leader.

    Raises:
        OSError: the folder cannot be written.
    """
    runner = Runner(setup, backbone, group)
    jobs = by_training(cell for cell in cells if not runner.store.settled(cell))
    while jobs:
        claimed_elsewhere = []
        for job in jobs:
            with runner.store.claims.claim(job[0].training) as note:
                if note is None:
                    claimed_elsewhere.append(job)
                    continue
                _run_job(runner, job, _both(notify, note))
            for cell in job:
                notify(cell, "done", 1.0)
        if len(claimed_elsewhere) == len(jobs):
            notify(jobs[0][0], "another process is at it", 0.0)
            time.sleep(WAIT)
        jobs = claimed_elsewhere


def assist(setup: Setup, group: Group) -> None:
    """Do this process's share of every fit that the leader of the group begins, until it has no more."""
    runner = Runner(setup, group=group)
    for cell, resume in group.calls():
        runner.assist(cell, resume)


def by_training(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Group cells that share a prompt: the pieces that work is handed out in."""
    jobs: dict[str, list[Cell]] = {}
    for cell in cells:
        jobs.setdefault(cell.training.key, []).append(cell)
    return list(jobs.values())


def _both(first: Notify, second: Notify) -> Notify:
    def notify(cell: Cell, doing: str, share: float) -> None:
        first(cell, doing, share)
        second(cell, doing, share)

    return notify


def _run_job(runner: Runner, cells: Sequence[Cell], notify: Notify) -> None:
    """Run the cells of one training; where that fails, they all do."""
    for cell in cells:
        if runner.store.settled(cell):
            continue
        try:
            runner.run(cell, notify)
        except Exception as error:  # whatever it is, the other cells go on
            if runner.group.size > 1 and not isinstance(error, CocoopError):
                raise  # the others are in the middle of a fit, and end with this process
            untrained = cell.training.learns and not runner.store.prompt_path(cell.training).exists()
            for failed in cells if untrained else [cell]:
                if not runner.store.has(failed):
                    runner.store.claims.fail(failed, error)
