"""A run folder as tables in the terminal or in Markdown, LaTeX or CSV, or as a page."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cocoop.errors import CocoopError
from cocoop.experiments.store import Store
from cocoop.report.tables import tables
from cocoop.report.tables.cost import costs, shown
from cocoop.report.tables.latex import latex
from cocoop.report.tables.notes import notes
from cocoop.report.tables.results import Results, results
from cocoop.report.tables.seeds import by_seed
from cocoop.report.tables.significance import explained, significance
from cocoop.utils.display import markdown


def report(
    folder: Path,
    format: str,
    console: Console,
    root: str | Path | None = None,
    against: str | None = None,
) -> None:
    """Print the tables of a run folder, or write its page and print where it is.

    Args:
        folder: the run folder.
        format: "table", "md", "csv", "latex" or "html".
        console: to print on.
        root: where the datasets are, for the page.
        against: a method that the others are compared with, in a column of p values; not for the page.

    Raises:
        UsageError: a table has no such method.
        CocoopError: there is nothing in the folder to report.
    """
    store = Store(folder)
    records = list(store.records())
    if not records:
        raise CocoopError(
            f"{folder} holds no finished runs; make some with: cocoop run base-to-new --out {folder}"
        )
    if format == "html":
        from cocoop.report.page import html  # it draws, and looks at images

        console.print(f"report: {html.write(store, root)}", soft_wrap=True, highlight=False)
        return
    compared = [_compare(result, store, against) for result in results(records)]
    if format == "csv":
        _print(by_seed(compared).to_csv(index=False).rstrip(), console)
        return
    for result in compared:
        frame, title = result.frame, result.protocol.title
        if format == "table" or frame.empty:
            show(result, console)
            show_cost(result, console)
        elif format == "md":
            lines = [markdown(line) for line in _notes(result)]
            parts = [f"## {title}", tables.markdown(frame, result.learned), *lines]
            if not (cost := costs(result)).empty:
                parts += ["### Cost", tables.grid(shown(cost), ("method",))]
            _print("\n\n".join(parts) + "\n", console)
        else:
            _print(latex(frame, title, _notes(result), result.learned) + "\n", console)


def _notes(result: Results) -> list[str]:
    return [*notes(result.frame, result.records), *([result.p_note] if result.p_note else [])]


def _compare(result: Results, store: Store, against: str | None) -> Results:
    if not against or result.frame.empty:
        return result
    return replace(result, p=significance(result, store, against), p_note=explained(result, against))


def show_cost(result: Results, console: Console) -> None:
    """Print what the methods of a protocol cost beside their scores, where it compares any."""
    frame = costs(result)
    if frame.empty:
        return
    table = Table(title=f"{result.protocol.title}: cost", title_justify="left", header_style="bold")
    for name in frame.columns:
        table.add_column(name, justify="left" if name == "method" else "right", overflow="fold")
    for row in shown(frame).to_numpy().tolist():
        table.add_row(*row)
    console.print(table)


def show(result: Results, console: Console) -> None:
    """Print one table and what belongs to it."""
    if result.frame.empty:
        console.print(f"{result.protocol.title}: no complete rows yet")
        return
    console.print(tables.terminal(result.frame, result.protocol.title, result.learned, console.width))
    for line in _notes(result):
        console.print(line, highlight=False)


def _print(words: str, console: Console) -> None:
    console.print(words, soft_wrap=True, highlight=False, markup=False)
