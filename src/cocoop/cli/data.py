"""The command `cocoop data`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from cocoop.cli.get import get
from cocoop.cli.options import (
    Encoding,
    Json,
    LabelColumn,
    Labels,
    LabelSep,
    LabelsFrom,
    Names,
    PathColumn,
    Root,
    Sep,
    SplitColumn,
)
from cocoop.utils.display import readable_json, terminal
from cocoop.utils.files import file_digest, write_text

if TYPE_CHECKING:
    from cocoop.data.benchmark.check import Check

app = typer.Typer(no_args_is_help=True, help="List, get, check and export datasets.")
app.command()(get)
out = terminal(highlight=False)

SHOWN = 10  # faulty images named on the screen
MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("problem", "bold red")}


@app.command("list")
def list_(root: Root = None, json: Json = False) -> None:
    """List the datasets, where each belongs under the root, and whether it is there."""
    from cocoop.data.benchmark.catalog import entries

    if json:
        rows = [
            {
                "name": entry.name,
                "classes": entry.classes,
                "images": dict(entry.counts),
                "folder": entry.spec.folder if entry.spec else None,
                "source": entry.spec.source if entry.spec else None,
                "state": entry.state(root),
            }
            for entry in entries()
        ]
        typer.echo(readable_json(rows, indent=2))
        return
    splits = ("train", "val", "test")
    table = Table(title="Datasets", title_justify="left", header_style="bold")
    for name in ("name", "classes", *splits, "state"):
        table.add_column(name, justify="left" if name in ("name", "state") else "right")
    for entry in entries():
        counts = [f"{entry.counts[split]:,}" if entry.counts.get(split) else "" for split in splits]
        table.add_row(entry.name, f"{entry.classes:,}", *counts, entry.state(root) or "needs --root")
    out.print(table)
    out.print("What is missing, and where to get it: cocoop data check NAME --root DIR")


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", help="See `cocoop data list`.")],
    root: Root = None,
    read: Annotated[bool, typer.Option("--read", help="Read every image; takes a while.")] = False,
    faults: Annotated[
        Path | None,
        typer.Option("--faults", metavar="FILE", help="Write the list of all faulty images to FILE."),
    ] = None,
    names: Names = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    sep: Sep = None,
    encoding: Encoding = None,
    labels_from: LabelsFrom = None,
    label_sep: LabelSep = None,
    labels: Labels = None,
    json: Json = False,
) -> None:
    """Say what is there of a dataset, what is missing and what to do; exit 0 only where it is usable."""
    from dataclasses import replace

    from cocoop.data import DATASETS, is_source, open_dataset
    from cocoop.data.benchmark.check import Finding
    from cocoop.data.benchmark.check import check as run_check
    from cocoop.data.own.reading import Reading

    with terminal(stderr=True).status("looking at the images", spinner="line") as status:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            status.update(f"looking at the images: {done:,}")

        reading = Reading(
            path_column, label_column, split_column, sep, encoding, labels_from, label_sep, labels
        )
        result = run_check(name, root, read, progress, names, reading)
    if is_source(name) and name not in DATASETS.names() and result.counts:
        from cocoop.estimator.backbone import photograph_warning

        text = photograph_warning(open_dataset(name, root, names, reading, multilabel=True))
        more = (Finding("warning", text),) if text else ()
        result = replace(result, findings=(*result.findings, *more))
    if faults:
        write_text(faults, "".join(f"{fault.path}\t{fault.problem}\n" for fault in result.faults))
    if json:
        typer.echo(readable_json(result.as_dict(), indent=2))
    else:
        _show(result, faults)
    raise typer.Exit(0 if result.usable else 1)


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="See `cocoop data list`.")],
    folder: Annotated[Path, typer.Option("--out", help="A folder that does not exist yet.")],
    split: Annotated[
        str | None, typer.Option(help="Only this split, as CLASS/ folders; else SPLIT/CLASS/.")
    ] = None,
    root: Root = None,
) -> None:
    """Copy a dataset's images into one folder a class."""
    from cocoop.data import open_dataset
    from cocoop.data.export import export as run_export

    counts = run_export(open_dataset(name, root), folder, split)
    total = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    out.print(f"{folder}: {total} images", soft_wrap=True)


@app.command()
def draw(
    name: Annotated[str, typer.Argument(help="See `cocoop data list`.")],
    shots: Annotated[int, typer.Option(min=1, help="Training images a class.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 1,
    file: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to.")] = Path("draw.json"),
    root: Root = None,
) -> None:
    """Write the images that a seed draws, in the format of the split files, and print the file's SHA-256."""
    from cocoop.data import open_dataset
    from cocoop.data.splits import draw as draw_shots

    dataset = open_dataset(name, root)
    dataset.items("train")  # refuses what is for testing only
    drawn = draw_shots(dataset.splits, shots, seed)
    text = readable_json({split: [list(item) for item in items] for split, items in drawn.items()})
    write_text(file, f"{text}\n")
    counts = ", ".join(f"{split} {len(items):,}" for split, items in drawn.items())
    out.print(f"{file}: {counts} images, SHA-256 {file_digest(file)}", soft_wrap=True)


def _show(result: "Check", list_of_faults: Path | None) -> None:
    out.print(f"{result.name}, in {result.place}", soft_wrap=True)
    for finding in result.findings:
        mark, colour = MARKS[finding.level]
        out.print(Text.assemble((f"  {mark:8}", colour), finding.text), soft_wrap=True)
        if finding.todo:
            out.print(f"          {finding.todo}", soft_wrap=True)
    for fault in result.faults[:SHOWN]:
        out.print(f"          {fault.path}: {fault.problem}", soft_wrap=True)
    if list_of_faults:
        out.print(f"          all {len(result.faults):,} of them: {list_of_faults}", soft_wrap=True)
    elif len(result.faults) > SHOWN:
        more = len(result.faults) - SHOWN
        out.print(f"          and {more:,} more; --faults FILE writes all to a file", soft_wrap=True)
    out.print(f"{'usable' if result.usable else 'not usable yet'}: {result.name}")
