"""The paper's numbers, beside ours where they are of the same thing."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from cocoop.experiments.aggregate import AVERAGE, harmonic_mean
from cocoop.experiments.cell import Training
from cocoop.experiments.record import Record
from cocoop.methods import presets_of

PREFIX = "paper "  # of its columns


@cache
def published() -> dict[str, Any]:
    """Return what is in published.json: the tables, and what they were made with."""
    tables: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return tables


def join(frame: pd.DataFrame, protocol: str, records: Sequence[Record]) -> pd.DataFrame:
    """Add the paper's values of the same backbone, shots, dataset and method, as columns "paper X".

    Average rows get the paper's average over the same datasets, where it has them all; its H is that of the
    averages, with the mean of the datasets' H as "paper mean_H".

    Args:
        frame: an ordered table of the protocol.
        protocol: registered name.
        records: that the table was made of.
    """
    table = published()["tables"].get(protocol)
    if not table:
        return frame
    columns = [PREFIX + name for name in table["columns"]]
    methods = _comparable(records)
    ours = frame[frame["dataset"] != AVERAGE]
    theirs = ours.apply(
        lambda row: (
            table["rows"].get(row["dataset"], {}).get(methods.get(row["method"]), [None] * len(columns))
        ),
        axis=1,
        result_type="expand",
    ).astype(float)
    if theirs.isna().all(axis=None):
        return frame
    joined = frame.join(theirs.set_axis(columns, axis=1))
    for index, method in frame["method"][frame["dataset"] == AVERAGE].items():
        means = theirs[ours["method"] == method].mean(skipna=False).set_axis(columns)
        joined.loc[index, columns] = means
        if "H" in table["columns"]:
            joined.loc[index, "paper H"] = harmonic_mean(means["paper base"], means["paper new"])
            joined.loc[index, "paper mean_H"] = means["paper H"]
    return joined


def _comparable(records: Sequence[Record]) -> dict[str, str]:
    """Return the method of every label that is what the paper ran, but for how long it was trained."""
    trainings = {record.cell.training.label: record.cell.training for record in records}
    backbones = {name.replace("/", "-") for name in published()["backbones"]}
    return {
        label: training.method
        for label, training in trainings.items()
        if training.backbone.replace("/", "-") in backbones
        and training.shots in (0, published()["shots"])
        and is_default(training)
    }


def is_default(training: Training) -> bool:
    """Whether a method has the settings of its first preset, but for how it is trained."""
    default = asdict(next(iter(presets_of(training.method).values())).config)
    return json.dumps(default | training.config) == json.dumps(
        default
    )  # as a record has them: tuples are lists
