"""The progress of a run on the terminal."""

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

from cocoop.experiments.cell import Cell
from cocoop.experiments.status import survey
from cocoop.experiments.store import Store
from cocoop.utils.display import on_one_line


class Bar:
    """A bar over the cells to run, fed by word from this process or by looking at the folder."""

    def __init__(self, progress: Progress, cells: Sequence[Cell], store: Store) -> None:
        self._progress = progress
        self._cells = cells
        self._store = store
        self._task = progress.add_task("starting", total=len(cells))

    def tell(self, cell: Cell, doing: str, share: float) -> None:
        """Hear from this process what it is at."""
        if doing == "done":
            self._progress.advance(self._task)
        else:
            words = on_one_line(f"{cell.title}, {doing} ({share:.0%})")
            self._progress.update(self._task, description=words)

    def look(self) -> None:
        """See in the folder what other processes have done."""
        statuses = survey(self._cells, self._store)
        settled = sum(status.state in ("done", "failed") for status in statuses)
        running = [status for status in statuses if status.state == "running"]
        at_work = len({status.cell.training.key for status in running})
        words = [f"{status.cell.title}, {status.note}" for status in running if status.note]
        what = ", ".join([f"{at_work} at work", *words[:1]])
        self._progress.update(self._task, completed=settled, description=on_one_line(what))


@contextmanager
def progress_bar(cells: Sequence[Cell], store: Store, console: Console) -> Iterator[Bar]:
    """Show a bar over the cells to run; yields what feeds it."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=console, speed_estimate_period=600) as progress:
        yield Bar(progress, cells, store)
        progress.update(progress.task_ids[0], description="done")
