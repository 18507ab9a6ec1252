"""Plot of the variants of an ablation, one a line; the same bytes each time."""

import math

import pandas as pd

from cocoop.experiments.aggregate import AVERAGE
from cocoop.report.plots.curves import MEASURES
from cocoop.report.plots.svg import ROW, RULE, WIDTH, axes, canvas, drawing, legend, point, render
from cocoop.utils.display import short


def variants(frame: pd.DataFrame) -> str | None:
    """Plot base, new and H of every variant: averages where the table has them, else its only dataset.

    Returns:
        The SVG, or None where there is only one variant.
    """
    whole = frame[frame["dataset"] == AVERAGE] if AVERAGE in set(frame["dataset"]) else frame
    if len(whole) < 2:
        return None
    with drawing():
        height, top = 26 * len(whole), 16 + ROW * len(MEASURES)
        figure = canvas(top + height + 44)
        names = [short(str(name), 36) for name in whole["method"]]
        left = 14 + math.ceil(6.2 * max(map(len, names)))
        ax = axes(figure, left, top, WIDTH - left - 12, height)
        places = range(len(whole))
        for name, colour in MEASURES.items():
            ax.plot(whole[name], places, **point(colour), linestyle="", clip_on=False)
        ax.set_yticks(places, names)
        ax.set_ylim(len(whole) - 0.5, -0.5)
        ax.grid(axis="y", color=RULE, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.set_xlabel("accuracy or H, %")
        ax.spines[["left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
        legend(figure, [(name, point(colour)) for name, colour in MEASURES.items()])
        return render(figure, f"Base and new accuracy and H of {', '.join(names)}")
