"""How far a long step is: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

FIRST, LATER, GROWTH = 10.0, 300.0, 1.5  # seconds to the first line, at most to the next, and how that grows


@contextmanager
def progress(
    what: str, total: int, console: Console, hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show how far something is; yields what advances it.

    On a terminal it is a bar that goes away when done, apart from what else is printed. In a file or a log it
    is a line with what is left, after some seconds and then less and less often; nothing for what is quick.
    """
    if not console.is_terminal:
        yield _Lines(what, total, console).advance
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=hidden,
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def every_step(done: Callable[[], None]) -> Iterator[None]:
    """Call `done` after every step of any optimiser inside."""
    from torch.optim.optimizer import register_optimizer_step_post_hook  # bars need no torch

    hook = register_optimizer_step_post_hook(lambda *step: done())
    try:
        yield
    finally:
        hook.remove()


class _Lines:
    """Prints a line where some time has passed since the last.

    Args:
        what: is done.
        total: steps.
        console: where lines go.
    """

    def __init__(self, what: str, total: int, console: Console) -> None:
        self._what, self._total, self._console = what, total, console
        self._done, self._wait = 0, FIRST
        self._start = self._last = time.monotonic()

    def advance(self, count: int) -> None:
        """Count steps as done."""
        self._done += count
        now = time.monotonic()
        if now - self._last < self._wait or self._done >= self._total:
            return
        self._last, self._wait = now, min(LATER, self._wait * GROWTH)
        left = (now - self._start) / self._done * (self._total - self._done)
        line = f"{self._what}: {self._done:,} of {self._total:,}, about {duration(left)} left"
        self._console.print(line, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Examples:
        >>> from cocoop.estimator.progress import duration
        >>> duration(8.2), duration(250.0), duration(9000.0)
        ('8 s', '4 min', '2 h 30 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
