"""Plots of a report: tables and records to SVG text, the same bytes each time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cocoop.protocols.base_to_new import AVERAGE
from cocoop.report.labels import SIZE, Box, place
from cocoop.report.svg import (
    FAINT,
    INK,
    ROW,
    RULE,
    WIDTH,
    axes,
    canvas,
    drawing,
    hue,
    legend,
    marker,
    render,
    short,
)
from cocoop.store import Record

Colours = Mapping[str, int]  # method label -> index of its colour and marker


def tradeoff(frame: pd.DataFrame, colours: Colours) -> str | None:
    """Plot accuracy on new classes over that on base classes, one marker a dataset and method.

    The light curves join points of equal H; thin lines join the (few) methods of a dataset.

    Args:
        frame: an ordered base-to-new table.
        colours: of the methods.

    Returns:
        The SVG, or None where there are no rows.
    """
    if not {"base", "new"} <= set(frame.columns):
        return None
    rows = frame[frame["dataset"] != AVERAGE]
    methods = list(dict.fromkeys(rows["method"]))
    if not methods:
        return None
    low, high = _limits(rows[["base", "new"]].to_numpy(dtype=float))
    with drawing():
        top = 16 + ROW * len(methods)
        figure = canvas(top + 374)
        ax = axes(figure, 46, top, WIDTH - 46 - 44, 330)
        taken = _equal_h(ax, low, high)
        ax.set(xlim=(low, high), ylim=(low, high))
        ax.set_xlabel("accuracy on base classes, %")
        ax.set_ylabel("accuracy on new classes, %")
        lines = rows if len(methods) <= 4 else rows[:0]  # of more methods they are a tangle
        for _, part in lines.groupby("dataset", sort=False):
            ax.plot(part["base"], part["new"], color=FAINT, linewidth=0.7, alpha=0.6, zorder=2)
        for method in methods:
            part = rows[rows["method"] == method]
            ax.plot(part["base"], part["new"], **_marker(colours[method]), linestyle="", clip_on=False)
        legend(figure, [(short(method, 52), _marker(colours[method])) for method in methods])
        _name_points(ax, rows, taken)
        return render(figure, f"New-class over base-class accuracy of {', '.join(methods)}, by dataset")


def gains(frame: pd.DataFrame, method: str, over: str, colours: Colours) -> str | None:
    """Plot what `method` gains over another, in new-class accuracy and in H: bars by dataset, sorted.

    Args:
        frame: an ordered base-to-new table.
        method: label of the method.
        over: label of the one it is compared with.
        colours: of the methods.

    Returns:
        The SVG, or None where no dataset has both.
    """
    if not {"new", "H"} <= set(frame.columns):
        return None
    if not {method, over} <= set(frame["method"]):
        return None
    own, other = (
        frame[frame["method"] == label].set_index("dataset")[["new", "H"]] for label in (method, over)
    )
    gain = (own - other).dropna()
    datasets = gain.drop(index=AVERAGE, errors="ignore").sort_values(["new", "H"], kind="stable")
    if datasets.empty:
        return None
    if set(own.index) == set(other.index) and len(datasets) > 1:
        datasets = pd.concat([gain.loc[[AVERAGE]], datasets])
    with drawing():
        height = 34 * len(datasets)
        figure = canvas(46 + height + 44)
        names = [short(str(name), 22) for name in datasets.index]
        left = 18 + math.ceil(6.2 * max(map(len, names)))
        ax = axes(figure, left, 46, WIDTH - left - 10, height)
        ax.set_yticks(range(len(datasets)), names)
        _bars(ax, datasets, hue(colours[method]))
        ax.set_xlabel(f"gain over {short(over, 32)}, percentage points")
        keys = [("accuracy on new classes", 1.0), ("H, harmonic mean of base and new", PALE)]
        patch = {"marker": "s", "markersize": 9, "markeredgewidth": 0, "color": hue(colours[method])}
        legend(figure, [(words, patch | {"alpha": alpha}) for words, alpha in keys])
        return render(figure, f"Gain of {method} over {over} in new-class accuracy and H, by dataset")


def losses(records: Sequence[Record], colours: Colours) -> str | None:
    """Plot the training loss of every learned method, mean over seeds, one panel a dataset.

    Returns:
        The SVG, or None where nothing was trained.
    """
    curves = _loss_curves(records)
    if not curves:
        return None
    methods = [label for label in colours if any(label in panel for panel in curves.values())]
    columns = min(2, len(curves))
    rows = math.ceil(len(curves) / columns)
    cell, height, top = WIDTH / columns, 150 if columns == 2 else 230, 30 + ROW * len(methods)
    with drawing():
        figure = canvas(top + rows * height + 20)
        for index, (dataset, panel) in enumerate(curves.items()):
            across, down = index % columns, index // columns
            ax = axes(figure, cell * across + 34, top + down * height + 20, cell - 44, height - 48)
            ax.set_title(short(dataset, 24), loc="left", fontsize=11)
            ax.grid(axis="y", color=RULE, linewidth=0.6)
            for method, curve in panel.items():
                _line(ax, curve, hue(colours[method]), marker(colours[method]))
            ax.set(xlim=(0, 100), ylim=_loss_limits(np.concatenate(list(panel.values()))))
            ax.set_xticks([0, 50, 100])
            ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        legend(figure, [(short(method, 52), {"color": hue(colours[method])}) for method in methods])
        words = "training loss (cross-entropy, nats)"
        figure.text(0.01, 1 - (top - 6) / figure.get_figheight() / 72, words, va="bottom", fontsize=11)
        figure.text(0.5, 0.008, "share of the training done, %", ha="center", va="bottom", fontsize=11)
        return render(figure, f"Training loss of {', '.join(methods)}, by dataset")


PALE = 0.4  # opacity of the second bar of a pair


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = max(3.0, 0.08 * (high - low))
    return max(0.0, low - pad), min(100.0, high + pad)


def _marker(colour: int) -> dict[str, Any]:
    hollow = colour == 0  # the method that learns nothing
    return {
        "marker": marker(colour),
        "color": hue(colour),
        "markerfacecolor": "none" if hollow else hue(colour),
        "markersize": 6.5,
        "markeredgewidth": 1.4 if hollow else 0.0,
    }


def _equal_h(ax: Axes, low: float, high: float) -> list[Box]:
    """Draw and label curves of equal H in the square from low to high; return the labels' boxes."""
    boxes = []
    for h in MaxNLocator(5).tick_values(low, high):
        if not low < h < high:
            continue
        right = h * high / (2 * high - h)  # where the curve leaves the square, if at its right side
        at_side = right >= low
        ends = (right, high) if at_side else (low, h * low / (2 * low - h))
        base = np.linspace(*ends, 60)
        ax.plot(base, h * base / (2 * base - h), color=RULE, linewidth=0.9, zorder=1)
        end = (high, right) if at_side else (ends[1], low)
        shift = (4, 0) if at_side else (2, 4)
        words = f"H {h:g}"
        align = "center" if at_side else "bottom"
        ax.annotate(words, end, shift, textcoords="offset points", color=FAINT, fontsize=9, va=align)
        boxes.append((end, shift))
    ax.set(xlim=(low, high), ylim=(low, high))
    spots = [(ax.transData.transform(end), shift) for end, shift in boxes]
    return [(x + dx, y + dy - 5, x + dx + 28, y + dy + 12) for (x, y), (dx, dy) in spots]


def _name_points(ax: Axes, rows: pd.DataFrame, taken: Sequence[Box]) -> None:
    """Write each dataset's name beside one of its markers, where one has room."""
    lines = {
        str(name): ax.transData.transform(part[["base", "new"]].to_numpy(dtype=float))
        for name, part in rows.groupby("dataset", sort=False)
    }
    for name, spot, side in place({short(name, 22): line for name, line in lines.items()}, taken, ax.bbox):
        ax.annotate(name, spot, xycoords="figure pixels", fontsize=SIZE, ha=side, va="bottom", zorder=4)


def _bars(ax: Axes, gain: pd.DataFrame, colour: str) -> None:
    places = np.arange(len(gain))
    for name, shift, alpha in (("new", 0.2, 1.0), ("H", -0.2, PALE)):
        values = gain[name].to_numpy(dtype=float)
        ax.barh(places + shift, values, height=0.36, color=colour, alpha=alpha, linewidth=0)
        for place_, value in zip(places + shift, values, strict=True):
            side = -1 if value < 0 else 1
            ax.annotate(
                f"{round(value, 1) + 0.0:+.1f}".replace("-", "−"),
                (value, place_),
                (3 * side, 0),
                textcoords="offset points",
                ha="right" if side < 0 else "left",
                va="center",
                fontsize=9.5,
            )
    negative, positive = min(0.0, float(gain.min().min())), max(0.0, float(gain.max().max()))
    share = 40 / ax.bbox.width  # of the axes, for the number at the end of the longest bar
    sides = (share if negative else 0.03, share if positive or not negative else 0.03)
    scale = (positive - negative or 1.0) / (1 - sum(sides))
    ax.set_xlim(negative - sides[0] * scale, positive + sides[1] * scale)
    ax.set_ylim(-0.6, len(gain) - 0.4)
    ax.axvline(0, color=INK, linewidth=0.9)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.spines[["left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    if gain.index[0] == AVERAGE:
        ax.axhline(0.5, color=RULE, linewidth=0.9)


def _loss_curves(records: Sequence[Record]) -> dict[str, dict[str, np.ndarray]]:
    """Return dataset -> method -> loss by epoch, the mean over the seeds of the longest trainings."""
    runs: dict[tuple[str, str], dict[str, list[float]]] = {}
    for record in records:
        training = record.cell.training
        if record.loss:
            runs.setdefault((training.dataset, training.label), {})[training.key] = record.loss
    curves: dict[str, dict[str, np.ndarray]] = {}
    for (dataset, label), found in sorted(runs.items()):
        longest = max(map(len, found.values()))
        same = [loss for loss in found.values() if len(loss) == longest]
        curves.setdefault(dataset, {})[label] = np.mean(same, axis=0)
    return curves


def _loss_limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = 0.1 * (high - low) or 0.1 * high or 1.0
    return (low - pad if low > high / 3 else min(0.0, low)), high + pad


def _line(ax: Axes, curve: np.ndarray, colour: str, shape: str) -> None:
    done = 100 * (np.arange(len(curve)) + 0.5) / len(curve)  # an epoch's mean stands at its middle
    ax.plot(done, curve, color=colour, linewidth=1.6, marker=shape if len(curve) < 3 else "", markersize=5)
