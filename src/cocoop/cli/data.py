"""The command `cocoop data`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from cocoop.cli.options import Json, Root
from cocoop.utils.display import readable_json, terminal

if TYPE_CHECKING:
    from cocoop.data.benchmark.check import Check

app = typer.Typer(no_args_is_help=True, help="List, check and export datasets.")
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
        typer.Option(
            "--faults", help="Where the list of all faulty images goes; NAME-faults.txt if not given."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say what is there of a dataset, what is missing and what to do; exit 0 only where it is usable."""
    from cocoop.data.benchmark.check import check as run_check

    with terminal(stderr=True).status("looking at the images", spinner="line") as status:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            status.update(f"looking at the images: {done:,}")

        found = run_check(name, root, read, progress)
    if json:
        typer.echo(readable_json(found.as_dict(), indent=2))
    else:
        _show(found, faults or Path(f"{Path(name).name}-faults.txt"))
    raise typer.Exit(0 if found.usable else 1)


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
    said = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    out.print(f"{folder}: {said} images", soft_wrap=True)


def _show(found: "Check", path: Path) -> None:
    from cocoop.utils.files import write_text

    out.print(f"{found.name}, in {found.place}", soft_wrap=True)
    for finding in found.findings:
        mark, colour = MARKS[finding.level]
        out.print(Text.assemble((f"  {mark:8}", colour), finding.text), soft_wrap=True)
        if finding.todo:
            out.print(f"          {finding.todo}", soft_wrap=True)
    for fault in found.faults[:SHOWN]:
        out.print(f"          {fault.path}: {fault.problem}", soft_wrap=True)
    if found.faults:
        write_text(path, "".join(f"{fault.path}\t{fault.problem}\n" for fault in found.faults))
        out.print(f"          all {len(found.faults):,} of them: {path}", soft_wrap=True)
    out.print(f"{'usable' if found.usable else 'not usable yet'}: {found.name}")
