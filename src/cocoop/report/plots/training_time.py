"""Plot of how long methods train; the same bytes each time."""

from collections import defaultdict
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from cocoop.experiments.record import Record
from cocoop.report.plots import svg
from cocoop.utils.display import short


def training_time(records: Sequence[Record], colours: svg.Colours) -> str | None:
    """Plot milliseconds a training image by method, the mean over its trainings.

    Returns:
        The SVG, or None where nothing was trained.
    """
    times: defaultdict[str, dict[str, float]] = defaultdict(dict)  # label -> training -> ms an image
    for record in records:
        training = record.cell.training
        if training.recipe and record.seconds_per_step and record.train_images:
            images = min(training.recipe["batch_size"] or record.train_images, record.train_images)
            times[training.label][training.key] = 1000 * record.seconds_per_step / images
    labels = [label for label in colours if label in times]
    if not labels:
        return None
    means = [sum(times[label].values()) / len(times[label]) for label in labels]
    with svg.drawing():
        figure, ax = svg.named_rows([short(label, 30) for label in labels], 22, top=10, right=56)
        bars = ax.barh(
            range(len(means)), means, height=0.6, color=[svg.hue(colours[x]) for x in labels], linewidth=0
        )
        words = [f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}" for mean in means]
        ax.bar_label(bars, words, padding=4, fontsize=9.5)
        ax.axvline(0, color=svg.INK, linewidth=0.9)
        ax.set_xlabel("time a training image, ms")
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        return svg.render(figure, f"Time a training image of {', '.join(labels)}")
