"""A hook of mkdocs: the command reference, made from the command itself, in place of the word COMMANDS."""

from typing import Any

import typer.main
from typer.cli import get_docs_for_click

from cocoop.cli import app


def on_page_markdown(markdown: str, page: Any, **named: Any) -> str:
    """Fill the page of the command reference."""
    return markdown.replace("COMMANDS", reference()) if page.file.src_uri == "commands.md" else markdown


def reference() -> str:
    """Return every command with its arguments and options as Markdown."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="cocoop"), name="cocoop")
    return text.partition("\n## ")[2].join(
        ("## ", "")
    )  # without the list of all, which the page has at its side
