"""The commands `cocoop run`, `demo`, `report` and `status`."""

import fnmatch
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocoop.cli.options import Backbone, Budget, Device, Precision, Root, Settings, loading, parse_bytes
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.utils.display import terminal

if TYPE_CHECKING:
    from cocoop.experiments.record import Record

app = typer.Typer()
out = terminal()
# the words of this call, for `cocoop status`
called: ContextVar[tuple[str, ...]] = ContextVar("called", default=())


class Format(str, Enum):
    """What a report is written as."""

    table = "table"
    md = "md"
    csv = "csv"
    latex = "latex"
    html = "html"


@app.command()
def run(
    protocols: Annotated[
        list[str], typer.Argument(metavar="PROTOCOL", help="One or more; see `cocoop list protocols`.")
    ],
    datasets: Annotated[str, typer.Option(help="Names or patterns, separated by commas.")] = "emoji/*",
    methods: Annotated[
        str | None, typer.Option(help="Names, separated by commas; those of the paper if not given.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Numbers, separated by commas.")] = "1,2,3",
    shots: Annotated[int, typer.Option(help="Training images a class.")] = 16,
    source: Annotated[
        str | None,
        typer.Option(
            help="What cross-dataset and domain-generalization train on. Default: imagenet or the first "
            "dataset; all that have shifted domains."
        ),
    ] = None,
    backbone: Backbone = "tiny-clip",
    folder: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("runs"),
    preset: Annotated[
        list[str] | None, typer.Option(help="See `cocoop list presets`; one a method, repeatable.")
    ] = None,
    set_: Settings = None,
    device: Device = "auto",
    precision: Precision = "auto",
    memory_budget: Budget = None,
    root: Root = None,
    workers: Annotated[
        str,
        typer.Option(metavar="N|ray[:ADDRESS]", help="Processes that share the work out, or a Ray cluster."),
    ] = "1",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each; all, shared out, if not given.")
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(help="Where the curves go: tensorboard or none. [default: tensorboard, if installed]"),
    ] = None,
    testing: Annotated[
        str,
        typer.Option(
            help="Of prompts that depend on the image: exact, screened (exact for the likeliest) or linear."
        ),
    ] = "exact",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print every setting and estimate the work.")
    ] = False,
) -> None:
    """Run protocols; finished cells are skipped, so the same command goes on after an interruption."""
    with loading():
        from cocoop.experiments import run as experiment
        from cocoop.experiments.protocols import PAPER_METHODS

    with interruptible():
        experiment.run(
            protocols,
            datasets=matching(datasets),
            methods=PAPER_METHODS if methods is None else words(methods),
            seeds=numbers(seeds),
            shots=shots,
            source=source,
            backbone=backbone,
            folder=folder,
            presets=preset or [],
            overrides=set_ or [],
            device=device,
            precision=precision,
            memory_budget=parse_bytes(memory_budget),
            root=root,
            workers=workers,
            threads=threads,
            track=track,
            testing=testing,
            command=shlex.join(["cocoop", *called.get()]),
            dry_run=dry_run,
            console=out,
            report=_show_tables,
        )


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("demo-run"),
    full: Annotated[bool, typer.Option("--full", help="The presets' own epochs, and three seeds.")] = False,
    seeds: Annotated[
        str | None, typer.Option(help="Numbers, separated by commas; 1 and 2 if not given.")
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Processes that share the work out; one a core, up to 4, if not given."
        ),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Names, separated by commas, or all; those of the paper if not given.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="See `cocoop list protocols`.")] = "base-to-new",
    datasets: Annotated[str, typer.Option(help="Names or patterns, separated by commas.")] = "emoji/*",
    backbone: Backbone = "tiny-clip",
) -> None:
    """Zero-shot CLIP, CoOp and CoCoOp on the embedded data, then the table and a report."""
    with loading():
        from cocoop.experiments import run as experiment
        from cocoop.experiments.demo import choose
        from cocoop.experiments.store import Store
        from cocoop.report.page import html
        from cocoop.utils.environment import cores

    chosen = choose(None if methods is None else words(methods), protocol, full, backbone)
    for line in chosen.left_out:
        out.print(line, soft_wrap=True, highlight=False)
    with interruptible():
        experiment.run(
            protocol,
            datasets=matching(datasets),
            methods=chosen.methods,
            seeds=numbers(seeds or ("1,2,3" if full else "1,2")),
            workers=workers or str(min(4, cores())),
            presets=chosen.presets,
            backbone=backbone,
            folder=folder,
            console=out,
            report=_show_tables if methods is None else _show_costs,
        )
    out.print(f"report: {html.write(Store(folder))}", soft_wrap=True, highlight=False)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="A run folder.")],
    format: Annotated[
        Format, typer.Option(help="csv has one line a record; html writes RUNS/report.html.")
    ] = Format.table,
    root: Root = None,
    against: Annotated[
        str | None, typer.Option(metavar="METHOD", help="A column of p values: the others against this one.")
    ] = None,
) -> None:
    """Show the tables of a run folder, or write its page."""
    from cocoop.report import show

    show.report(folder, format.value, out, root, against)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="A run folder.")],
    json_: Annotated[bool, typer.Option("--json", help="Every cell, as JSON.")] = False,
) -> None:
    """Show what of a run folder is done, running, failed or missing."""
    from cocoop.experiments import status

    status.show(folder, json_, out)


def _show_tables(records: "Sequence[Record]") -> None:
    from cocoop.report.show import show
    from cocoop.report.tables.results import results

    for protocol in results(records):
        show(protocol, out)


def _show_costs(records: "Sequence[Record]") -> None:
    from cocoop.report.show import show, show_cost
    from cocoop.report.tables.results import results

    for protocol in results(records):
        show(protocol, out)
        show_cost(protocol, out)


class _Interrupted(CocoopError):
    exit_code = 130


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C into an error that says that what is finished is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise _Interrupted(
            "interrupted; what was finished is kept, and the same command goes on from there"
        ) from None


def words(text: str) -> tuple[str, ...]:
    """Return the words of a list that is separated by commas."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of such a list. Raises UsageError."""
    try:
        return tuple(int(word) for word in words(text))
    except ValueError:
        raise UsageError(f"{text!r} is not a list of whole numbers such as 1,2,3") from None


def matching(text: str) -> tuple[str, ...]:
    """Return the datasets that names or patterns mean. Raises UsageError where there are none."""
    from cocoop.data import DATASETS, is_source

    matching: dict[str, None] = {}
    for word in words(text):
        names = fnmatch.filter(DATASETS.names(), word) or [word] * is_source(word)
        if not names:
            raise unknown("dataset", word, DATASETS.names())
        matching.update(dict.fromkeys(names))
    return tuple(matching)
