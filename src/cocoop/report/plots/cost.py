"""Plot of what methods cost: time a training image, and memory; the same bytes each time."""

import math
from collections import defaultdict
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cocoop.experiments.record import Record
from cocoop.report.plots.svg import INK, WIDTH, Colours, axes, canvas, drawing, hue, render
from cocoop.utils.display import short


def cost(records: Sequence[Record], colours: Colours) -> str | None:
    """Plot milliseconds a training image (mean over trainings) and peak memory (highest) by method.

    Returns:
        The SVG, or None where nothing was trained.
    """
    times: defaultdict[str, dict[str, float]] = defaultdict(dict)
    memory: defaultdict[str, float] = defaultdict(float)
    for record in records:
        training = record.cell.training
        if training.recipe and record.seconds_per_step:
            per_image = (
                1000 * record.seconds_per_step / min(training.recipe["batch_size"], record.train_images)
            )
            times[training.label][training.key] = per_image
            memory[training.label] = max(memory[training.label], record.peak_memory_mb)
    labels = [label for label in colours if label in times]
    if not labels:
        return None
    means = [sum(times[label].values()) / len(times[label]) for label in labels]
    with drawing():
        height, names = 22 * len(labels), [short(label, 30) for label in labels]
        left = 14 + math.ceil(6.2 * max(map(len, names)))
        figure = canvas(2 * (height + 66))
        for index, (words, values) in enumerate(
            (
                ("time a training image, ms", means),
                ("peak memory, MiB", [memory[label] for label in labels]),
            )
        ):
            ax = axes(figure, left, 10 + index * (height + 66), WIDTH - left - 56, height)
            ax.set_yticks(range(len(labels)), names)
            ax.set_ylim(len(labels) - 0.4, -0.6)
            ax.set_xlabel(words)
            _bars(ax, values, [hue(colours[label]) for label in labels])
        return render(figure, f"Time a training image and peak memory of {', '.join(labels)}")


def _bars(ax: Axes, values: Sequence[float], hues: Sequence[str]) -> None:
    ax.barh(range(len(values)), values, height=0.6, color=hues, linewidth=0)
    for place, value in enumerate(values):
        words = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        ax.annotate(words, (value, place), (4, 0), textcoords="offset points", va="center", fontsize=9.5)
    ax.axvline(0, color=INK, linewidth=0.9)
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.spines[["left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
