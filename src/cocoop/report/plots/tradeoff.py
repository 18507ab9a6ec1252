"""Plot of base against new classes, with curves of equal harmonic mean; the same bytes each time."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cocoop.experiments.aggregate import AVERAGE
from cocoop.report.plots import svg
from cocoop.utils.display import short


def tradeoff(frame: pd.DataFrame, colours: svg.Colours) -> str | None:
    """Plot accuracy on new classes over that on base classes: averages large, single datasets small.

    The light curves join points of equal H; lines join the (few) methods of an average or a dataset.

    Args:
        frame: an ordered base-to-new table.
        colours: of the methods.

    Returns:
        The SVG, or None where there are no rows.
    """
    if frame.empty or not {"base", "new"} <= set(frame.columns):
        return None
    methods = list(dict.fromkeys(frame["method"]))
    several = AVERAGE in set(frame["dataset"])
    low, high = _limits(frame[["base", "new"]].to_numpy(dtype=float))
    with svg.drawing():
        top = 16 + svg.ROW * len(methods)
        figure = svg.canvas(top + 374)
        ax = svg.axes(figure, 46, top, svg.WIDTH - 46 - 44, 330)
        _equal_h(ax, low, high)
        ax.set(xlim=(low, high), ylim=(low, high))
        ax.set_xlabel("accuracy on base classes, %")
        ax.set_ylabel("accuracy on new classes, %")
        for dataset, part in frame.groupby("dataset", sort=False):
            main = dataset == AVERAGE or not several
            if len(methods) <= 4:  # of more methods the lines are a tangle
                colour, width = (svg.INK, 1.4) if main else (svg.FAINT, 0.6)
                ax.plot(part["base"], part["new"], color=colour, linewidth=width, alpha=0.6, zorder=2)
            size = {} if main else {"markersize": 4.5, "markeredgewidth": 0.8, "alpha": 0.55}
            for method, base, new in zip(part["method"], part["base"], part["new"], strict=True):
                ax.plot(base, new, **(svg.point(colours[method]) | size), linestyle="", clip_on=False)
        svg.legend(figure, [(short(method, 52), svg.point(colours[method])) for method in methods])
        return svg.render(figure, f"New-class over base-class accuracy of {', '.join(methods)}, by dataset")


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = max(3.0, 0.08 * (high - low))
    return max(0.0, low - pad), min(100.0, high + pad)


def _equal_h(ax: Axes, low: float, high: float) -> None:
    """Draw and label curves of equal H in the square from low to high."""
    for h in MaxNLocator(5).tick_values(low, high):
        if not low < h < high:
            continue
        right = h * high / (2 * high - h)  # where the curve leaves the square, if at its right side
        at_side = right >= low
        ends = (right, high) if at_side else (low, h * low / (2 * low - h))
        base = np.linspace(*ends, 60)
        ax.plot(base, h * base / (2 * base - h), color=svg.RULE, linewidth=0.9, zorder=1)
        end, shift, align = (
            ((high, right), (4, 0), "center") if at_side else ((ends[1], low), (2, 4), "bottom")
        )
        ax.annotate(f"H {h:g}", end, shift, textcoords="offset points", color=svg.FAINT, fontsize=9, va=align)
