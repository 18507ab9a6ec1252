"""Plot of what one method gains over another, by dataset; the same bytes each time."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cocoop.experiments.aggregate import AVERAGE
from cocoop.report.plots import svg
from cocoop.utils.display import short

# columns of tables that a gain is shown in, the first two that there are
SHOWN = {
    "target": "accuracy on the target",
    "new": "accuracy on new classes",
    "H": "H, harmonic mean of base and new",
    "all": "accuracy on all images",
}
ALPHAS = (1.0, 0.4)  # opacity of the bars of a pair


def gains(frame: pd.DataFrame, method: str, over: str, colours: svg.Colours) -> str | None:
    """Plot what `method` gains over another in the columns of `SHOWN` that the table has, the best on top.

    Args:
        frame: an ordered table of a protocol.
        method: label of the method.
        over: label of the one it is compared with.
        colours: of the methods.

    Returns:
        The SVG, or None where no dataset has both.
    """
    columns = [name for name in SHOWN if name in frame.columns][:2]
    if not columns or not {method, over} <= set(frame["method"]):
        return None
    ours, theirs = (frame[frame["method"] == label].set_index("dataset")[columns] for label in (method, over))
    gain = (ours - theirs).dropna()
    datasets = gain.drop(index=AVERAGE, errors="ignore").sort_values(columns, ascending=False, kind="stable")
    if datasets.empty:
        return None
    if set(ours.index) == set(theirs.index) and len(datasets) > 1:
        datasets = pd.concat([datasets, gain.loc[[AVERAGE]]])
    with svg.drawing():
        names = [short(name, 24) for name in _brief(list(map(str, datasets.index)))]
        figure, ax = svg.named_rows(names, 34, 15 + svg.ROW * len(columns))
        _bars(ax, datasets, svg.hue(colours[method]))
        ax.set_xlabel(f"gain over {short(over, 32)}, percentage points")
        patch = {"marker": "s", "markersize": 9, "markeredgewidth": 0, "color": svg.hue(colours[method])}
        keys = [(SHOWN[name], patch | {"alpha": alpha}) for name, alpha in zip(columns, ALPHAS, strict=False)]
        svg.legend(figure, keys)
        words = " and ".join(SHOWN[name] for name in columns)
        return svg.render(figure, f"Gain of {method} over {over} in {words}, by dataset")


def _brief(names: Sequence[str]) -> list[str]:
    """Leave out of "source → target" what is the same in all names."""
    ends = [name.split(" → ") for name in names]
    pairs = [pair for pair in ends if len(pair) == 2]
    if not pairs:
        return list(names)
    same = [len({pair[side] for pair in pairs}) == 1 for side in (0, 1)]
    side = 1 if same[0] else 0 if same[1] else None
    return [
        name if len(pair) == 1 or side is None else pair[side] for name, pair in zip(names, ends, strict=True)
    ]


def _bars(ax: Axes, gain: pd.DataFrame, colour: str) -> None:
    places = np.arange(len(gain))
    shifts = (-0.2, 0.2) if len(gain.columns) > 1 else (0.0,)
    for name, shift, alpha in zip(gain.columns, shifts, ALPHAS, strict=False):
        values = gain[name].to_numpy(dtype=float)
        bars = ax.barh(places + shift, values, height=0.36, color=colour, alpha=alpha, linewidth=0)
        words = [f"{round(value, 1) + 0.0:+.1f}".replace("-", "−") for value in values]
        ax.bar_label(bars, words, padding=3, fontsize=9.5)
    ax.margins(x=44 / ax.bbox.width)  # for the number at the end of the longest bar
    ax.axvline(0, color=svg.INK, linewidth=0.9)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if gain.index[-1] == AVERAGE:
        ax.axhline(len(gain) - 1.5, color=svg.RULE, linewidth=0.9)
