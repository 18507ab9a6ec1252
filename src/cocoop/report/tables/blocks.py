"""A protocol table as the page shows it: blocks of rows, the best values marked, and the losses too."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from cocoop.experiments.aggregate import AVERAGE
from cocoop.methods import METHODS, baseline, facts_of
from cocoop.report.tables import tables
from cocoop.report.tables.published import PREFIX

CLOSELY = 6  # methods whose answers are looked at one by one; of more, those with the highest scores
SCORES = ("H", "all", "new", "target", "source", "accuracy")  # by which methods are compared, the first there


@dataclass(frozen=True)
class Value:
    """One number of a table.

    Attributes:
        text: as `tables.text` has it.
        best: the highest of its block, but for methods that see test images, where there are several.
        below: a learned method under zero-shot on unseen classes or domains.
        paper: the paper's value, not ours.
    """

    text: str
    best: bool
    below: bool
    paper: bool


@dataclass(frozen=True)
class Row:
    """One method of a block; `note` says what sets it apart from the others, and what it lacks."""

    method: str
    note: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Block:
    """The rows of one dataset, or of the average."""

    title: str
    average: bool
    rows: tuple[Row, ...]


def method_of(label: str) -> str:
    """Return the method that a label is of: its first word."""
    return label.split(" ")[0]


def first_label(frame: pd.DataFrame, method: str) -> str | None:
    """Return the first label of a method in table order, or None."""
    return next((label for label in frame["method"] if method_of(label) == method), None)


def newest(frame: pd.DataFrame) -> str | None:
    """Return the label of the latest method of an ordered table that is compared with others, or None.

    One that sees test images is compared with its like alone.
    """
    labels = [label for label in frame["method"].unique() if method_of(label) in METHODS.names()]
    plain = {
        method_of(label): label
        for label in reversed(labels)
        if not (facts_of(method_of(label)).ablation or tables.sees_test_images(label))
    }
    plain.pop(baseline(), None)
    return next(iter(plain.values()), None)


def references(frame: pd.DataFrame, method: str) -> list[str]:
    """Return the labels that a method's gains are shown over: of what it improves on, and of zero-shot."""
    names = (facts_of(method_of(method)).extends, baseline())
    labels = (first_label(frame, name) for name in names if name)
    return [label for label in labels if label and label != method]


def leading(frame: pd.DataFrame, count: int) -> list[str]:
    """Return the labels to look at closely where there are many: zero-shot and the highest scores.

    Args:
        frame: an ordered protocol table.
        count: of labels, at most.
    """
    labels = list(frame["method"].unique())
    score = next((name for name in SCORES if name in frame), None)
    if len(labels) <= count or score is None:
        return labels
    means = frame.groupby("method")[score].mean().sort_values(ascending=False, kind="stable")
    zero_shot = [label for label in labels if method_of(label) == baseline()][:1]
    best = [label for label in means.index if label not in zero_shot][: count - len(zero_shot)]
    return [label for label in labels if label in (*zero_shot, *best)]


def table_blocks(frame: pd.DataFrame, learned: set[str]) -> Iterator[Block]:
    """Yield the blocks of an ordered protocol table.

    Args:
        frame: the table; an average over one dataset alone is left out.
        learned: labels of the methods that are trained.
    """
    texts, columns = tables.text(frame), tables.values(frame)
    marked = tables.below(frame, learned)
    for dataset, part in frame.groupby("dataset", sort=False):
        average = dataset == AVERAGE
        covered = part["datasets"] if average else part["seeds"].where(part["method"].isin(learned))
        covered = covered.astype(float)
        if average and covered.max() == 1:
            continue  # it would repeat the only dataset
        apart = part["method"].map(tables.sees_test_images).astype(bool)
        fair = (~apart).sum() > 1 and not (average and covered.nunique() > 1)
        shown = part[columns].round(2).mask(apart)  # compared as they are read
        rows = []
        for place, method in enumerate(part["method"]):
            values = tuple(
                Value(
                    text=texts.loc[part.index, column].iloc[place],
                    best=bool(
                        fair and _compared(column) and shown[column].iloc[place] == shown[column].max()
                    ),
                    below=bool(marked.loc[part.index, column].iloc[place]),
                    paper=column.startswith(PREFIX),
                )
                for column in columns
            )
            lacks = _lacks(covered.iloc[place], covered.max(), average)
            sees = tables.SEES if apart.iloc[place] else ""
            rows.append(Row(method, ", ".join(filter(None, (sees, lacks))), values))
        title = f"average of {int(covered.max())} datasets" if average else str(dataset)
        yield Block(title, average, tuple(rows))


def _compared(column: str) -> bool:
    """Whether the highest value of a column is the best."""
    return column not in tables.COUNTS and not column.startswith(PREFIX)


def _lacks(count: float, most: float, average: bool) -> str:
    """Say where a row stands on less than the others of its block."""
    return f"{count:.0f} of {most:.0f} {'datasets' if average else 'seeds'}" if count < most else ""
