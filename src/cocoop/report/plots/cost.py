"""Plot of accuracy against the time that a method takes to train; the same bytes each time."""

import pandas as pd

from cocoop.report.plots import svg
from cocoop.utils.display import short

NOTHING = "no training"  # where methods that learn nothing stand, as the axis is logarithmic


def accuracy_and_cost(frame: pd.DataFrame, colours: svg.Colours) -> str | None:
    """Plot the score of methods over their seconds of training, on a logarithmic axis.

    Args:
        frame: as `cocoop.report.tables.cost.costs` returns it.
        colours: of the methods.

    Returns:
        The SVG, or None where nothing was trained.
    """
    if frame.empty or not (frame["train, s"] > 0).any():
        return None
    score, methods = frame.columns[1], list(frame["method"])
    seconds = frame["train, s"]
    least = 10 ** (-0.5) * float(seconds[seconds > 0].min())
    with svg.drawing():
        top = 16 + svg.ROW * len(methods)
        figure = svg.canvas(top + 344)
        ax = svg.axes(figure, 46, top, svg.WIDTH - 46 - 24, 300)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        numbered = len(methods) > len(svg.SERIES)  # colours come round again
        for number, (value, time) in enumerate(zip(frame[score], seconds, strict=True)):
            style = svg.point(colours[methods[number]])
            ax.plot(time or least, value, **style, linestyle="", clip_on=False)
            if numbered:
                ax.annotate(
                    str(number + 1), (time or least, value), (5, 3), textcoords="offset points", fontsize=8
                )
        if not seconds.all():
            ax.annotate(
                NOTHING,
                (least, 0),
                (3, 4),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color=svg.FAINT,
                fontsize=9,
            )
            ax.axvline(least, color=svg.RULE, linewidth=0.9, zorder=0)
        ax.set_xlabel("time to train from image features, s")
        ax.set_ylabel(f"{'H' if score == 'H' else f'accuracy, {score}'}, %")
        names = [f"{n}  {name}" if numbered else name for n, name in enumerate(methods, start=1)]
        styles = [svg.point(colours[method]) for method in methods]
        svg.legend(figure, [(short(name, 52), style) for name, style in zip(names, styles, strict=True)])
        return svg.render(figure, f"{score} over seconds of training of {', '.join(methods)}")
