"""Plot of base against new classes, with curves of equal harmonic mean; the same bytes each time."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cocoop.experiments.aggregate import AVERAGE
from cocoop.report.plots.labels import SIZE, Box, place
from cocoop.report.plots.svg import (
    FAINT,
    ROW,
    RULE,
    WIDTH,
    Colours,
    axes,
    canvas,
    drawing,
    legend,
    point,
    render,
)
from cocoop.utils.display import short


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
            ax.plot(part["base"], part["new"], **point(colours[method]), linestyle="", clip_on=False)
        legend(figure, [(short(method, 52), point(colours[method])) for method in methods])
        _name_points(ax, rows, taken)
        return render(figure, f"New-class over base-class accuracy of {', '.join(methods)}, by dataset")


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = max(3.0, 0.08 * (high - low))
    return max(0.0, low - pad), min(100.0, high + pad)


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
