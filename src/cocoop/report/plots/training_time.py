"""Plot of how long methods train; the same bytes each time."""

import math
from collections import defaultdict
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from cocoop.experiments.record import Record
from cocoop.report.plots.svg import INK, WIDTH, Colours, axes, canvas, drawing, hue, render
from cocoop.utils.display import short


def training_time(records: Sequence[Record], colours: Colours) -> str | None:
    """Plot milliseconds a training image by method, the mean over its trainings.

    Returns:
        The SVG, or None where nothing was trained.
    """
    times: defaultdict[str, dict[str, float]] = defaultdict(dict)  # label -> training -> ms an image
    for record in records:
        training = record.cell.training
        if training.recipe and record.seconds_per_step:
            images = min(training.recipe["batch_size"], record.train_images)
            times[training.label][training.key] = 1000 * record.seconds_per_step / images
    labels = [label for label in colours if label in times]
    if not labels:
        return None
    means = [sum(times[label].values()) / len(times[label]) for label in labels]
    with drawing():
        height, names = 22 * len(labels), [short(label, 30) for label in labels]
        left = 14 + math.ceil(6.2 * max(map(len, names)))
        figure = canvas(height + 56)
        ax = axes(figure, left, 10, WIDTH - left - 56, height)
        ax.barh(range(len(means)), means, height=0.6, color=[hue(colours[x]) for x in labels], linewidth=0)
        for place, mean in enumerate(means):
            words = f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"
            ax.annotate(words, (mean, place), (4, 0), textcoords="offset points", va="center", fontsize=9.5)
        ax.axvline(0, color=INK, linewidth=0.9)
        ax.set_yticks(range(len(labels)), names)
        ax.set_ylim(len(labels) - 0.4, -0.6)
        ax.set_xlabel("time a training image, ms")
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.spines[["left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
        return render(figure, f"Time a training image of {', '.join(labels)}")
