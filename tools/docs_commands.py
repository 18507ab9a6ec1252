"""The reference of the command, from the command itself."""

import typer.main
from typer.cli import get_docs_for_click

from cocoop.cli.main import app


def reference() -> str:
    """Return every command with its arguments and options as Markdown."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="cocoop"), name="cocoop")
    return text.partition("\n## ")[2].join(
        ("## ", "")
    )  # without the list of all, which the page has at its side
