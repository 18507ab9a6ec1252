"""A run folder as tables in the terminal or in Markdown, LaTeX or CSV, or as a page."""

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
from cocoop.utils.display import markdown


def report(folder: Path, format: str, console: Console, root: str | Path | None = None) -> None:
    """Print the tables of a run folder, or write its page and print where it is.

    Raises:
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
    if format == "csv":
        _print(by_seed(results(records)).to_csv(index=False).rstrip(), console)
        return
    for result in results(records):
        frame, title = result.frame, result.protocol.title
        if format == "table" or frame.empty:
            show(result, console)
            show_cost(result, console)
        elif format == "md":
            lines = [markdown(line) for line in notes(frame, result.records)]
            parts = [f"## {title}", tables.markdown(frame, result.learned), *lines]
            if not (cost := costs(result)).empty:
                parts += ["### Cost", tables.grid(shown(cost), ("method",))]
            _print("\n\n".join(parts) + "\n", console)
        else:
            _print(latex(frame, title, notes(frame, result.records), result.learned) + "\n", console)


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
    for line in notes(result.frame, result.records):
        console.print(line, highlight=False)


def _print(words: str, console: Console) -> None:
    console.print(words, soft_wrap=True, highlight=False, markup=False)
