"""Plot of what one method gains over another, by dataset; the same bytes each time."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cocoop.experiments.aggregate import AVERAGE
from cocoop.report.plots.svg import (
    INK,
    ROW,
    RULE,
    WIDTH,
    Colours,
    axes,
    canvas,
    drawing,
    hue,
    legend,
    render,
)
from cocoop.utils.display import short

# columns of tables that a gain is shown in, the first two that there are
SHOWN = {
    "target": "accuracy on the target",
    "new": "accuracy on new classes",
    "H": "H, harmonic mean of base and new",
    "all": "accuracy on all images",
}
ALPHAS = (1.0, 0.4)  # opacity of the bars of a pair


def gains(frame: pd.DataFrame, method: str, over: str, colours: Colours) -> str | None:
    """Plot what `method` gains over another in the columns of `SHOWN` that the table has, sorted bars.

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
    own, other = (frame[frame["method"] == label].set_index("dataset")[columns] for label in (method, over))
    gain = (own - other).dropna()
    datasets = gain.drop(index=AVERAGE, errors="ignore").sort_values(columns, kind="stable")
    if datasets.empty:
        return None
    if set(own.index) == set(other.index) and len(datasets) > 1:
        datasets = pd.concat([gain.loc[[AVERAGE]], datasets])
    with drawing():
        height, top = 34 * len(datasets), 15 + ROW * len(columns)
        figure = canvas(top + height + 44)
        names = [short(name, 24) for name in _brief(list(map(str, datasets.index)))]
        left = 18 + math.ceil(6.2 * max(map(len, names)))
        ax = axes(figure, left, top, WIDTH - left - 10, height)
        ax.set_yticks(range(len(datasets)), names)
        _bars(ax, datasets, hue(colours[method]))
        ax.set_xlabel(f"gain over {short(over, 32)}, percentage points")
        patch = {"marker": "s", "markersize": 9, "markeredgewidth": 0, "color": hue(colours[method])}
        keys = [(SHOWN[name], patch | {"alpha": alpha}) for name, alpha in zip(columns, ALPHAS, strict=False)]
        legend(figure, keys)
        words = " and ".join(SHOWN[name] for name in columns)
        return render(figure, f"Gain of {method} over {over} in {words}, by dataset")


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
    pair = len(gain.columns) > 1
    for name, shift, alpha in zip(gain.columns, (0.2, -0.2) if pair else (0.0,), ALPHAS, strict=False):
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
