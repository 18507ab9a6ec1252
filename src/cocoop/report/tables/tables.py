"""Protocol tables as text: percent with one deviation, in the terminal, Markdown or LaTeX."""

import math
import re
from collections.abc import Collection

import pandas as pd
from rich.table import Table
from rich.text import Text

from cocoop.experiments.aggregate import AVERAGE
from cocoop.methods import METHODS, facts_of, place
from cocoop.report.tables.published import published
from cocoop.utils import display

_NOT_SHOWN = ("dataset", "method", "seeds", "mean_H", "paper mean_H", "datasets")
P_VALUE = "p"  # column of significance
COUNTS = ("params",)  # columns of whole numbers, of which more is not better
UNSEEN = ("new", "target")  # columns of accuracy on what a prompt was not trained on
METHOD = 24  # characters that a method's label has in the terminal, at least
MARK = "▼"  # a learned prompt below zero-shot there
SEES = "sees test images"


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows: datasets as the paper has them, methods as they were published, averages last."""
    if frame.empty:
        return frame
    known = [name for table in published()["tables"].values() for name in table["rows"]]
    names = sorted(
        frame["dataset"].unique(), key=lambda name: known.index(name) if name in known else len(known)
    )
    places = {name: index for index, name in enumerate(names)}
    keys = frame.assign(
        _average=frame["dataset"].eq(AVERAGE),
        _place=frame["dataset"].map(places),
        _rank=frame["method"].map(rank),
    )
    keys = keys.sort_values(["_average", "_place", "_rank"], kind="stable")
    return keys.drop(columns=["_average", "_place", "_rank"]).reset_index(drop=True)


def rank(label: str) -> tuple[tuple[bool, bool, str, str], tuple[tuple[str, int], ...]]:
    """Return what labels are sorted by: their methods as `cocoop.methods.place` has them, and 8 before 16."""
    parts = tuple((words, int(number or 0)) for words, number in re.findall(r"(\D+)(\d*)", label))
    return (place(label.split(" ")[0]), parts)


def sees_test_images(label: str) -> bool:
    """Whether the method of a label adapts itself to test images."""
    name = label.split(" ")[0]
    return name in METHODS.names() and facts_of(name).sees_test_images


def values(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a protocol table that hold results."""
    names = map(str, frame.columns)
    return [name for name in names if name not in _NOT_SHOWN and not name.endswith("_std")]


def below(frame: pd.DataFrame, learned: Collection[str]) -> pd.DataFrame:
    """Return which values of learned prompts, on what they were not trained on, are below zero-shot.

    Values are compared as they are read, with two decimals.
    """
    columns = values(frame)
    marks = pd.DataFrame(False, index=frame.index, columns=columns)
    is_learned = frame["method"].isin(learned)
    others = is_learned | frame["method"].map(sees_test_images).astype(bool)
    for name in set(columns) & set(UNSEEN):
        shown = frame[name].round(2)
        zero_shot = shown[~others].groupby(frame["dataset"]).max()
        marks[name] = is_learned & (shown < frame["dataset"].map(zero_shot))
    return marks


def text(frame: pd.DataFrame, learned: Collection[str] = (), mark: str = MARK) -> pd.DataFrame:
    """Return the table as strings: "mean ± std" where there are several seeds, two decimals.

    Values below zero-shot are marked where the labels of the methods that are `learned` are given. A method
    that sees test images says so.
    """
    shown = frame[["dataset", "method"]].copy()
    shown["method"] = [f"{name}, {SEES}" if sees_test_images(name) else name for name in shown["method"]]
    if "datasets" in frame:
        covered = frame["datasets"].where(frame["dataset"].eq(AVERAGE))
        shown["dataset"] = [
            name if math.isnan(count) else f"average of {int(count)}"
            for name, count in zip(frame["dataset"], covered, strict=True)
        ]
    marked = below(frame, learned)
    for name in values(frame):
        spread = frame.get(f"{name}_std", pd.Series([math.nan] * len(frame)))
        numbers = zip(frame[name], spread, marked[name], strict=True)
        write = _count if name in COUNTS else _p_value if name == P_VALUE else _number
        shown[name] = [write(mean, std) + (f" {mark}" if low else "") for mean, std, low in numbers]
    return shown


def terminal(frame: pd.DataFrame, title: str, learned: Collection[str], width: int = 80) -> Table:
    """Return the table for the terminal, one block a dataset under its name.

    Where it would be wider than `width` characters, deviations stand under their means.
    """
    shown = text(frame, learned)
    columns = [name for name in shown.columns if name not in ("dataset", "method")]
    longest = min(METHOD, int(shown["method"].str.len().max()))
    if longest + 4 + sum(3 + _widest(shown[name]) for name in columns) > width:
        shown[columns] = shown[columns].replace(" ± ", "\n± ", regex=True)
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("method", overflow="fold", min_width=longest)
    for name in columns:
        head = name.replace(" ", "\n")
        table.add_column(head, justify="right", no_wrap=True, min_width=_widest(shown[name]))
    for dataset, part in shown.groupby("dataset", sort=False):
        table.add_row(Text(str(dataset), style="bold"))
        for index, row in enumerate(part[["method", *columns]].itertuples(index=False), start=1):
            table.add_row(*(Text(str(value)) for value in row), end_section=index == len(part))
    return table


def _widest(column: "pd.Series[str]") -> int:
    """Return the width of a column whose head and values are broken into lines."""
    heads = str(column.name).split(" ")
    return max(map(len, (*heads, *(line for value in column for line in value.split("\n")))))


def markdown(frame: pd.DataFrame, learned: Collection[str] = ()) -> str:
    """Return the table in Markdown."""
    return grid(text(frame, learned), ("dataset", "method"))


def grid(shown: pd.DataFrame, words: Collection[str]) -> str:
    """Return a table of strings in Markdown, the columns of `words` at the left and numbers at the right."""
    head = "| " + " | ".join(shown.columns) + " |"
    rule = "|" + "|".join(" --- " if name in words else " ---: " for name in shown.columns) + "|"
    rows = [
        "| " + " | ".join(display.markdown(str(value)) for value in row) + " |"
        for row in shown.itertuples(index=False)
    ]
    return "\n".join([head, rule, *rows])


def _number(mean: float, std: float) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.2f}" if math.isnan(std) else f"{mean:.2f} ± {std:.2f}"


def _p_value(value: float, std: float) -> str:
    if math.isnan(value):
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _count(number: int | float, std: float) -> str:
    return f"{number:,.0f}"
