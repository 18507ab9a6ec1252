"""Our values against those of a paper, one by one: the difference, and whether seeds explain it."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from cocoop.experiments.aggregate import AVERAGE, harmonic_mean
from cocoop.report.tables.published import is_default, published
from cocoop.report.tables.results import Results

CONFIDENCE = 0.95
FALLBACK = "base-to-new"  # whose numbers are those of every protocol with its columns


def against(result: Results) -> pd.DataFrame:
    """Return a row for every value that a paper has too.

    Backbone, shots and epochs are not compared: `differences` says where they are others.

    Columns: dataset, method, value (a column of the protocol's table), ours, theirs, difference, spread,
    within. The spread is how far two means over so many seeds lie apart in 95 of 100 cases, estimated by
    Student's t from the deviation over our seeds; the paper's deviation is not known and taken to be ours.
    There is none where nothing is learned, or for one seed.
    """
    name = result.name if result.name in published()["tables"] else FALLBACK
    columns = published()["tables"][name]["columns"]
    if result.frame.empty or not set(columns) <= set(result.frame.columns):
        return pd.DataFrame()
    return pd.DataFrame(list(_rows(result, name, columns)))


def _rows(result: Results, name: str, columns: list[str]) -> Iterator[dict[str, object]]:
    methods = {
        record.cell.training.label: record.cell.training.method
        for record in result.records
        if is_default(record.cell.training)
    }
    for _, row in result.frame.iterrows():
        method = methods.get(row["method"])
        theirs = _theirs(result.frame, row, name, method) if method else None
        if theirs is None:
            continue
        deviations = _deviations(result.frame, row, columns)
        learned = row["method"] in result.learned
        for column, value in zip(columns, theirs, strict=True):
            spread = _spread(deviations[column], int(row["seeds"])) if learned else math.nan
            difference = row[column] - value
            yield {
                "dataset": row["dataset"],
                "method": row["method"],
                "value": column,
                "ours": row[column],
                "theirs": value,
                "difference": difference,
                "spread": spread,
                "within": None if math.isnan(spread) else bool(abs(difference) <= spread),
            }


def _theirs(frame: pd.DataFrame, row: "pd.Series[Any]", name: str, method: str) -> list[float] | None:
    """Return a paper's values for a row; an average is that over the same datasets."""
    rows = published()["tables"][name]["rows"]
    if row["dataset"] != AVERAGE:
        found: list[float] | None = rows.get(row["dataset"], {}).get(method)
        return found
    datasets = frame["dataset"][(frame["method"] == row["method"]) & (frame["dataset"] != AVERAGE)]
    values = [rows.get(dataset, {}).get(method) for dataset in datasets]
    if None in values:
        known = published()["averages"].get(name, {}).get(method)
        return known["values"] if known and set(datasets) == set(rows) else None
    means = [sum(each) / len(each) for each in zip(*values, strict=True)]
    return [*means[:2], harmonic_mean(*means[:2])] if "H" in published()["tables"][name]["columns"] else means


def _deviations(frame: pd.DataFrame, row: "pd.Series[Any]", columns: list[str]) -> dict[str, float]:
    """Return the deviation over seeds of every value of a row; of an average, from those of its datasets."""
    part = frame[(frame["method"] == row["method"]) & (frame["dataset"] != AVERAGE)]
    found: dict[str, float] = {}
    for column in columns:
        if column == "H":
            base, new = (float(row[half]) for half in ("base", "new"))
            total = (base + new) ** 2 or math.inf  # nothing right: H does not move with either
            slopes = (2 * new**2 / total, 2 * base**2 / total)
            found["H"] = math.hypot(slopes[0] * found["base"], slopes[1] * found["new"])
        elif row["dataset"] == AVERAGE:
            found[column] = math.sqrt((part[f"{column}_std"] ** 2).sum(skipna=False)) / len(part)
        else:
            found[column] = float(row[f"{column}_std"])
    return found


def _spread(deviation: float, seeds: int) -> float:
    if seeds < 2:
        return math.nan
    from scipy.stats import t

    quantile = float(t.ppf((1 + CONFIDENCE) / 2, seeds - 1))
    return quantile * deviation * math.sqrt(1 / seeds + 1 / published()["seeds"])


def differences(result: Results) -> list[str]:
    """Return in what a run is another than the paper's, as far as its records tell."""
    trainings = [record.cell.training for record in result.records]
    backbones = sorted({t.backbone for t in trainings if t.backbone.replace("/", "-") not in _backbones()})
    shots = sorted({t.shots for t in trainings if t.shots not in (0, published()["shots"])})
    samples = sorted({record.cell.testing.sample for record in result.records} - {0})
    seeds = {t.seed for t in trainings if t.recipe}
    lines = [f"the backbone is {', '.join(backbones)}"] if backbones else []
    lines += [f"{', '.join(map(str, shots))} shots, not {published()['shots']}"] if shots else []
    lines += [f"only {samples[0]} test images a test"] if samples else []
    lines += [f"{len(seeds)} seeds, not {published()['seeds']}"] if len(seeds) != published()["seeds"] else []
    changed = sorted({t.label for t in trainings if t.label != t.method and " (" in t.label})
    return [*lines, *([f"other settings: {', '.join(changed)}"] if changed else [])]


def _backbones() -> set[str]:
    return {name.replace("/", "-") for name in published()["backbones"]}


def terminal(frame: pd.DataFrame, title: str) -> Table:
    """Return the comparison for the terminal, a block for every dataset."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for head in ("method", "value", "ours", "theirs", "difference", "spread", "within"):
        table.add_column(head, justify="left" if head in ("method", "value") else "right")
    for dataset, part in frame.groupby("dataset", sort=False):
        table.add_row(Text(str(dataset), style="bold"))
        rows = part.drop(columns="dataset").to_dict("records")
        for place, row in enumerate(rows, start=1):
            known = not math.isnan(row["spread"])
            table.add_row(
                row["method"],
                row["value"],
                *(f"{row[name]:.2f}" for name in ("ours", "theirs")),
                f"{row['difference']:+.2f}",
                f"{row['spread']:.2f}" if known else "–",
                ("yes" if row["within"] else "no") if known else "–",
                end_section=place == len(rows),
            )
    return table
