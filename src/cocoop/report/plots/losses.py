"""Plot of training losses, a panel a dataset; the same bytes each time."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cocoop.experiments.store import Record
from cocoop.report.plots.svg import (
    ROW,
    RULE,
    WIDTH,
    Colours,
    axes,
    canvas,
    drawing,
    hue,
    legend,
    marker,
    render,
    short,
)


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
