"""Plot of the variants of an ablation, one a line; the same bytes each time."""

import pandas as pd

from cocoop.experiments.aggregate import AVERAGE
from cocoop.report.plots import svg
from cocoop.report.plots.curves import MEASURES
from cocoop.utils.display import short


def variants(frame: pd.DataFrame) -> str | None:
    """Plot base, new and H of every variant: averages where the table has them, else its only dataset.

    Returns:
        The SVG, or None where there is only one variant.
    """
    whole = frame[frame["dataset"] == AVERAGE] if AVERAGE in set(frame["dataset"]) else frame
    if len(whole) < 2:
        return None
    with svg.drawing():
        names = [short(str(name), 36) for name in whole["method"]]
        figure, ax = svg.named_rows(names, 26, 16 + svg.ROW * len(MEASURES))
        for name, colour in MEASURES.items():
            ax.plot(whole[name], range(len(whole)), **svg.point(colour), linestyle="", clip_on=False)
        ax.grid(axis="y", color=svg.RULE, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.set_xlabel("accuracy or H, %")
        svg.legend(figure, [(name, svg.point(colour)) for name, colour in MEASURES.items()])
        return svg.render(figure, f"Base and new accuracy and H of {', '.join(names)}")
