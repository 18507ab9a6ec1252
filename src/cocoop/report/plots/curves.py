"""Plots over a number: accuracy by shots, and by the length of the context; the same bytes each time."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cocoop.experiments.aggregate import AVERAGE
from cocoop.experiments.protocols.few_shot import column
from cocoop.experiments.record import Record
from cocoop.report.plots import svg
from cocoop.utils.display import short

MEASURES = {"base": 3, "new": 4, "H": 5}  # column of an ablation -> number of its colour


def shots(frame: pd.DataFrame, records: Sequence[Record], colours: svg.Colours) -> str | None:
    """Plot accuracy over the images a class, with the deviation over seeds, one panel a dataset.

    A class with fewer images gives all it has, so a point stands at the mean that there were.

    Args:
        frame: an ordered few-shot table.
        records: that it was made of.
        colours: of the methods.

    Returns:
        The SVG, or None where there is nothing learned.
    """
    images = _images(records)
    if frame.empty or not images:
        return None
    panels = [(str(name), part) for name, part in frame.groupby("dataset", sort=False)]
    panels = [panels[-1], *panels[:-1]] if panels[-1][0] == AVERAGE else panels
    methods = list(dict.fromkeys(frame["method"]))
    columns = min(2, len(panels))
    rows, height = math.ceil(len(panels) / columns), 180 if columns == 2 else 260
    cell, top = svg.WIDTH / columns, 30 + svg.ROW * len(methods)
    with svg.drawing():
        figure = svg.canvas(top + rows * height + 20)
        for index, (dataset, part) in enumerate(panels):
            across, down = index % columns, index // columns
            ax = svg.axes(figure, cell * across + 30, top + down * height + 20, cell - 40, height - 48)
            ax.set_title(_title(dataset, part), loc="left", fontsize=11)
            places = images[dataset] if dataset in images else _mean(images)
            for row in part.to_dict("records"):
                _curve(ax, row, places, colours[row["method"]])
            _shot_axis(ax, places)
        learned = {record.cell.training.label for record in records if record.cell.training.learns}
        styles = {m: svg.point(colours[m]) if m in learned else _level(colours[m]) for m in methods}
        svg.legend(figure, [(short(method, 52), style) for method, style in styles.items()])
        words = "accuracy, %"
        figure.text(0.01, 1 - (top - 6) / figure.get_figheight() / 72, words, va="bottom", fontsize=11)
        figure.text(0.5, 0.008, "training images a class", ha="center", va="bottom", fontsize=11)
        return svg.render(
            figure, f"Accuracy over training images a class of {', '.join(methods)}, by dataset"
        )


def lengths(frame: pd.DataFrame, records: Sequence[Record]) -> str | None:
    """Plot base, new and H over the number of random context vectors; dashed: from words.

    Averages where the table has them, else its only dataset.

    Returns:
        The SVG, or None where fewer than two lengths are there.
    """
    whole = frame[frame["dataset"] == AVERAGE] if AVERAGE in set(frame["dataset"]) else frame
    method, random, words = _by_length(whole, records)
    if len(random) < 2:
        return None
    with svg.drawing():
        top = 16 + svg.ROW * len(MEASURES)
        figure = svg.canvas(top + 220 + 44)
        ax = svg.axes(figure, 46, top, svg.WIDTH - 56, 220)
        places = sorted(random)
        for name, colour in MEASURES.items():
            ax.plot(places, [random[place][name] for place in places], **svg.point(colour), linewidth=1.6)
            for row in words[:1]:
                ax.axhline(row[name], **_level(colour))
        ax.set_xscale("log", base=2)
        ax.set_xticks(places, [str(place) for place in places])
        ax.minorticks_off()
        ax.set_xlabel("context vectors M, from random values")
        ax.set_ylabel("accuracy or H, %")
        ax.grid(axis="y", color=svg.RULE, linewidth=0.6)
        svg.legend(figure, [(name, svg.point(colour)) for name, colour in MEASURES.items()])
        return svg.render(
            figure, f"Base and new accuracy and H of {method} over the number of context vectors"
        )


def _by_length(
    frame: pd.DataFrame, records: Sequence[Record]
) -> tuple[str, dict[int, pd.Series], list[pd.Series]]:
    """Return the method with the most lengths of random contexts, its rows by length, those from words."""
    trainings = {record.cell.training.label: record.cell.training for record in records}
    random: defaultdict[str, dict[int, pd.Series]] = defaultdict(dict)
    words: defaultdict[str, list[pd.Series]] = defaultdict(list)
    for _, row in frame.iterrows():
        training = trainings[row["method"]]
        config = training.config
        if "ctx_init" in config and config["ctx_init"] is None:
            random[training.method][config["n_ctx"]] = row
        elif "ctx_init" in config:
            words[training.method].append(row)
    method = max(random, key=lambda name: len(random[name]), default="")
    return method, random[method], words[method]


def _images(records: Sequence[Record]) -> dict[str, dict[int, float]]:
    """Return dataset -> shots -> mean images a class that there were."""
    images: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for record in records:
        if shots := record.cell.training.shots:
            images[record.cell.testing.dataset][shots] = record.train_images / len(record.class_names)
    return dict(images)


def _mean(images: dict[str, dict[int, float]]) -> dict[int, float]:
    frame = pd.DataFrame(images)
    return {int(str(shots)): float(mean) for shots, mean in frame.mean(axis=1).items()}


def _title(dataset: str, part: pd.DataFrame) -> str:
    return f"average of {int(part['datasets'].max())}" if dataset == AVERAGE else short(dataset, 24)


def _curve(ax: Axes, row: dict[Any, Any], places: dict[int, float], colour: int) -> None:
    shown = [(place, row[column(shots)], row.get(f"{column(shots)}_std")) for shots, place in places.items()]
    x, y, spread = (np.array(values, dtype=float) for values in zip(*sorted(shown), strict=True))
    if np.ptp(y) == 0 and np.isnan(spread).all():  # the same for all shots: nothing is learned
        ax.axhline(y[0], **_level(colour))
        return
    ax.fill_between(
        x, y - np.nan_to_num(spread), y + np.nan_to_num(spread), color=svg.hue(colour), alpha=0.15, lw=0
    )
    ax.plot(x, y, **svg.point(colour), linewidth=1.6)


def _level(colour: int) -> dict[str, Any]:
    return {"color": svg.hue(colour), "linewidth": 1.2, "linestyle": (0, (4, 3))}


def _shot_axis(ax: Axes, places: dict[int, float]) -> None:
    ticks = sorted(set(places.values()))
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    ax.minorticks_off()
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.grid(axis="y", color=svg.RULE, linewidth=0.6)
