"""The command `cocoop push`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cocoop.cli.options import loading
from cocoop.errors import UsageError
from cocoop.utils.display import terminal

if TYPE_CHECKING:
    from cocoop.estimator.push import Upload

app = typer.Typer()
out = terminal(highlight=False)


@app.command()
def push(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that `cocoop fit` wrote.")],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository; made if need be.")],
    private: Annotated[bool, typer.Option("--private", help="Only its owner will see it.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="A branch, made if need be; the main one if not given.")
    ] = None,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "Upload a model of cocoop",
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> None:
    """Put a model on the Hugging Face Hub; `hf:OWNER/NAME` then stands wherever a MODEL does."""
    with loading():
        from cocoop.estimator.pull import address
        from cocoop.estimator.push import prepare, upload

    place = address(name)
    if revision:
        place = replace(place, revision=revision)
    plan = prepare(model, place, private)
    _show(plan)
    if not yes:
        _agree()
    out.print(f"there: {upload(plan, message)}", soft_wrap=True)
    out.print(f"try: cocoop predict {place} IMAGE", soft_wrap=True)


def _show(plan: "Upload") -> None:
    seen = "private: its owner sees it" if plan.private else "public: everybody sees it"
    branch = f", branch {plan.place.revision}" if plan.place.revision else ""
    out.print(
        f"To {plan.place.page}{branch}, {'there already' if plan.exists else 'new'}, {seen}", soft_wrap=True
    )
    table = Table(header_style="bold")
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("")
    for name, data in plan.files.items():
        table.add_row(name, f"{len(data):,}", "in place of the one there" if name in plan.there else "")
    for name in plan.removed:
        table.add_row(name, "", "removed; the history keeps it")
    out.print(table)
    for note in plan.notes:
        out.print(f"{note}.", soft_wrap=True)


def _agree() -> None:
    if not sys.stdin.isatty():
        raise UsageError("nothing was uploaded; look at this list, and say so with --yes")
    if not typer.confirm("Upload it?"):
        raise UsageError("nothing was uploaded")
