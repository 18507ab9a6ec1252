"""The command `cocoop data get`."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cocoop.cli.options import Root
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.utils.display import terminal

if TYPE_CHECKING:
    from cocoop.data.benchmark.fetch import Job, Watch
    from cocoop.data.benchmark.spec import Benchmark

out = terminal(highlight=False)


def get(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names or patterns, or all.")],
    root: Root = None,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="You have read the terms of each; ask nothing.")
    ] = False,
    archives: Annotated[
        Path | None, typer.Option(help="A folder with archives that you have already, as ImageNet's.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the archives.")] = False,
    parallel: Annotated[int, typer.Option(min=1, max=16, help="Files at a time.")] = 4,
) -> None:
    """Download the benchmark's datasets; the same command goes on where it was interrupted."""
    from cocoop.data.benchmark.fetch import fetch, lacks

    specs = _specs(names)
    if root is None:
        raise UsageError("say where the datasets belong: --root DIR (or $COCOOP_DATA)")
    root.mkdir(parents=True, exist_ok=True)
    jobs = [job for spec in specs for job in lacks(spec, root)]
    if jobs:
        _show(specs, jobs)
        _agree(accept_terms)
        with _bars(jobs) as watch:
            problems = fetch(jobs, root, archives=archives, parallel=parallel, keep=keep, watch=watch)
    else:
        problems = {}
    for spec in specs:
        if spec.name not in problems and (found := _problems(spec, root)):
            problems[spec.name] = found
        out.print(f"{spec.name}: {'not usable yet' if spec.name in problems else 'usable'}")
        for each in problems.get(spec.name, ()):
            out.print(f"  {each}", soft_wrap=True)
    if problems:
        raise CocoopError(f"not usable yet: {', '.join(problems)}; the same command tries again")


def _problems(spec: "Benchmark", root: Path) -> list[str]:
    from cocoop.data.benchmark.check import check

    findings = check(spec.name, root).findings
    return [f"{each.text}. {each.todo}" for each in findings if each.level == "problem"]


def _specs(names: Sequence[str]) -> list["Benchmark"]:
    from cocoop.data.benchmark.catalog import entries

    known = {entry.name: entry.spec for entry in entries() if entry.spec}
    chosen: dict[str, Benchmark] = {}
    for name in names:
        matching = [each for each in known if name == "all" or fnmatch(each, name)]
        if not matching:
            raise unknown("dataset to download", name, known)
        chosen |= {each: known[each] for each in matching}
    return list(chosen.values())


def _show(specs: Sequence["Benchmark"], jobs: Sequence["Job"]) -> None:
    table = Table(title="To get", title_justify="left", header_style="bold")
    for head in ("dataset", "download", "terms, as far as known", "source, whose word holds"):
        table.add_column(head, justify="right" if head == "download" else "left", overflow="fold")
    for spec in specs:
        mine = [job for job in jobs if job.spec is spec]
        size = sum(job.size for job in mine)
        words = _bytes(size) if size else "by hand" if spec.by_hand else "small"
        table.add_row(spec.name, words if mine else "there", spec.terms, spec.source)
    out.print(table)
    out.print(f"{_bytes(sum(job.size for job in jobs))} to download, and about as much again once unpacked.")


def _agree(accepted: bool) -> None:
    if accepted:
        return
    if not sys.stdin.isatty():
        raise UsageError("read the terms of these datasets, and say so with --accept-terms")
    if not typer.confirm("Have you read the terms at their sources, and do you agree to them?"):
        raise UsageError("nothing was downloaded")


@contextmanager
def _bars(jobs: Sequence["Job"]) -> Iterator["Watch"]:
    """Show a bar for every dataset: bytes, speed and time left."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    sizes: dict[str, int] = {}
    for job in jobs:
        sizes[job.spec.name] = sizes.get(job.spec.name, 0) + job.size
    lock = threading.Lock()
    with Progress(*columns, console=terminal(stderr=True), speed_estimate_period=30) as progress:
        tasks = {name: progress.add_task(name, total=size or None) for name, size in sizes.items()}

        def watch(name: str, doing: str, count: int) -> None:
            with lock:
                if doing == "unpacking":
                    progress.update(tasks[name], description=f"{name}, unpacking")
                else:
                    progress.update(tasks[name], advance=count, description=name)

        yield watch


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
