"""Protocol tables as text: percent with one deviation, in the terminal, Markdown, CSV or LaTeX."""

import math
from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from cocoop.store import Record

# Zero-shot first, then the paper's two methods, then the rest by name.
_ORDER = ("zeroshot", "coop", "cocoop")
_NOT_SHOWN = ("seeds", "mean_H", "datasets")


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows: datasets by name with averages last, methods in the order of the paper."""
    if frame.empty:
        return frame
    keys = frame.assign(
        _average=frame["dataset"].eq("average"),
        _rank=[_rank(method) for method in frame["method"]],
    )
    keys = keys.sort_values(["_average", "dataset", "_rank", "method"], kind="stable")
    return keys.drop(columns=["_average", "_rank"]).reset_index(drop=True)


def values(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a protocol table that hold results."""
    fixed = {"dataset", "method", *_NOT_SHOWN}
    return [name for name in frame.columns if name not in fixed and not name.endswith("_std")]


def text(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table as strings: "mean ± std" where there are several seeds, two decimals."""
    shown = frame[["dataset", "method"]].copy()
    if "datasets" in frame:
        covered = frame["datasets"].where(frame["dataset"].eq("average"))
        shown["dataset"] = [
            name if math.isnan(count) else f"average of {int(count)}"
            for name, count in zip(frame["dataset"], covered, strict=True)
        ]
    for name in values(frame):
        spread = frame.get(f"{name}_std", pd.Series([math.nan] * len(frame)))
        shown[name] = [_number(mean, std) for mean, std in zip(frame[name], spread, strict=True)]
    return shown


def terminal(frame: pd.DataFrame, title: str) -> Table:
    """Return the table for the terminal, one block a dataset."""
    shown = text(frame)
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in shown.columns:
        table.add_column(name, justify="left" if name in ("dataset", "method") else "right", no_wrap=True)
    rows = shown.to_dict("records")
    for index, row in enumerate(rows):
        first = index == 0 or rows[index - 1]["dataset"] != row["dataset"]
        last = index + 1 == len(rows) or rows[index + 1]["dataset"] != row["dataset"]
        cells = [value if name != "dataset" or first else "" for name, value in row.items()]
        table.add_row(*map(str, cells), end_section=last)
    return table


def markdown(frame: pd.DataFrame) -> str:
    """Return the table in Markdown."""
    shown = text(frame)
    head = "| " + " | ".join(shown.columns) + " |"
    rule = (
        "|" + "|".join(" --- " if name in ("dataset", "method") else " ---: " for name in shown.columns) + "|"
    )
    rows = [
        "| " + " | ".join(str(value).replace("|", r"\|") for value in row) + " |"
        for row in shown.itertuples(index=False)
    ]
    return "\n".join([head, rule, *rows])


def notes(frame: pd.DataFrame, records: Sequence[Record]) -> list[str]:
    """Return what must be known to read the table: seeds, shots, spread, and both ways to average H."""
    trained = [record.cell.training for record in records if record.cell.training.recipe]
    seeds = sorted({training.seed for training in trained})
    shots = sorted({training.shots for training in trained})
    backbones = sorted({record.cell.training.backbone for record in records})
    lines = [f"Accuracy in percent, backbone {', '.join(backbones)}."]
    if seeds:
        spread = (
            "± is the sample standard deviation over them" if len(seeds) > 1 else "a single one, no spread"
        )
        few = " (classes with fewer images give all they have)" if any(map(_has_few, records)) else ""
        lines.append(f"Shots: {_list(shots)}{few}. Seeds: {_list(seeds)}; {spread}.")
    lines += sorted({f"{record.note}." for record in records if record.note})
    if "mean_H" in frame:
        means = frame.dropna(subset="mean_H")
        each = ", ".join(f"{row.method} {row.mean_H:.2f}" for row in means.itertuples())
        lines.append(f"Average rows: H of the average base and new. Mean of the datasets' H instead: {each}.")
    return lines


def _has_few(record: Record) -> bool:
    """Whether a training on the tested classes had fewer images than its shots ask for."""
    training = record.cell.training
    same = training.recipe is not None and training.subset == record.cell.testing.subset
    return same and record.train_images < training.shots * len(record.class_names)


def _number(mean: float, std: float) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.2f}" if math.isnan(std) else f"{mean:.2f} ± {std:.2f}"


def _rank(method: str) -> int:
    name = method.split(" ")[0]
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
