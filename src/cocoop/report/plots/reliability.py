"""Reliability diagram, accuracy over confidence; the same bytes each time."""

from collections.abc import Mapping

import numpy as np

from cocoop.report.plots import svg
from cocoop.utils.display import short

BINS = 10
FEWEST = 10  # images that a bin needs to be shown

Outcomes = tuple[np.ndarray, np.ndarray]  # confidence in the likeliest class, and whether it is correct: (n,)


def reliability(parts: Mapping[str, Mapping[str, Outcomes]], colours: svg.Colours) -> str | None:
    """Plot accuracy over mean confidence in bins of confidence, one panel a part of the tests.

    Args:
        parts: title of a panel -> method label -> outcomes, over images and seeds.
        colours: of the methods.

    Returns:
        The SVG, or None where there are too few outcomes.
    """
    parts = {
        title: panel for title, panel in parts.items() if any(len(_binned(*x)[0]) for x in panel.values())
    }
    if not parts:
        return None
    methods = [label for label in colours if any(label in panel for panel in parts.values())]
    columns = len(parts)
    size, top = svg.WIDTH / columns - 44, 30 + svg.ROW * len(methods)
    size = min(size, 260)
    with svg.drawing():
        figure = svg.canvas(top + size + 64)
        for index, (title, panel) in enumerate(parts.items()):
            ax = svg.axes(figure, index * svg.WIDTH / columns + 34, top + 20, size, size)
            ax.set_title(short(title, 24), loc="left", fontsize=11)
            ax.plot([0, 100], [0, 100], color=svg.FAINT, linewidth=0.8, linestyle=(0, (2, 3)))
            for label in methods:
                if label in panel:
                    x, y = _binned(*panel[label])
                    ax.plot(x, y, **svg.point(colours[label]), linewidth=1.4)
            ax.set(xlim=(0, 100), ylim=(0, 100))
            ax.set_xticks([0, 50, 100])
            ax.set_yticks([0, 50, 100])
            ax.grid(color=svg.RULE, linewidth=0.6)
        svg.legend(figure, [(short(label, 52), svg.point(colours[label])) for label in methods])
        figure.text(
            0.01, 1 - (top - 6) / figure.get_figheight() / 72, "accuracy, %", va="bottom", fontsize=11
        )
        figure.text(0.5, 0.008, "confidence, %", ha="center", va="bottom", fontsize=11)
        return svg.render(figure, f"Accuracy over confidence of {', '.join(methods)}")


def _binned(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean confidence and accuracy, in percent, of the bins that have enough images."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    full = counts >= FEWEST
    sums = (
        np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, correct.astype(float))
    )
    x, y = (100 * total[full] / counts[full] for total in sums)
    return x, y
