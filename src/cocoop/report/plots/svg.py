"""Figures as SVG for a page: drawn in fixed tokens of colour, which become the page's CSS variables."""

import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cocoop.utils.display import visible
from cocoop.utils.files import digest

WIDTH = 400  # of every figure, near a phone's, so that type keeps its size there

INK, FAINT, RULE = "#1c2024", "#687076", "#d3d7db"
# Okabe and Ito's palette, which colour-blind readers can tell apart; its black is a grey here, for zero-shot.
SERIES = ("#5a6167", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DARK = ("#a9b1b8", "#f0803c", "#56b4e9", "#2dbd92", "#d992b9", "#e9ab33", "#8fd0f5")  # on a dark page
MARKERS = "osD^vPX"

ROW = 15.5  # height of a line of the legend

Colours = Mapping[str, int]  # method label -> number of its colour and marker

_TOKENS = {INK: "ink", FAINT: "faint", RULE: "rule"} | {hue: f"s{i}" for i, hue in enumerate(SERIES)}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cocoop",
    "font.family": "DejaVu Sans",  # ships with matplotlib, so the layout is the same everywhere
    "font.size": 11,
    "text.parse_math": False,  # a label may hold a dollar sign
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.dpi": 72,  # one SVG unit a pixel
    "savefig.dpi": 72,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Use this module's style inside, whatever the user's matplotlib settings are."""
    with warnings.catch_warnings(), matplotlib.style.context(["default", _STYLE]):
        warnings.filterwarnings("ignore", message="Glyph")  # measured only; the browser has the glyph
        yield


def canvas(height: int | float) -> Figure:
    """Return a figure of the common width and a height in SVG units."""
    return Figure(figsize=(WIDTH / 72, height / 72))


def axes(
    figure: Figure, left: int | float, top: int | float, width: int | float, height: int | float
) -> Axes:
    """Add axes by their place from the top left corner and their size, in SVG units."""
    whole = figure.get_figheight() * 72
    return figure.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))


def named_rows(
    names: Sequence[str], row: int | float, top: int | float, right: int | float = 12
) -> tuple[Figure, Axes]:
    """Return a figure and axes with one row a name, the first on top, the names at the left.

    Args:
        names: of the rows.
        row: height of a row, in SVG units.
        top: units above the rows.
        right: units at their right.
    """
    left = 16 + math.ceil(6.2 * max(map(len, names)))
    figure = canvas(top + row * len(names) + 44)
    ax = axes(figure, left, top, WIDTH - left - right, row * len(names))
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.spines[["left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return figure, ax


def legend(figure: Figure, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """List the entries (words, line style) at the top, one a line of `ROW` units."""
    styles: list[dict[str, Any]] = [
        ({"linestyle": ""} if "marker" in style else {}) | dict(style) for _, style in entries
    ]
    handles = [Line2D([], [], **style) for style in styles]
    figure.legend(
        handles,
        [words for words, _ in entries],
        loc="upper left",
        bbox_to_anchor=(0, 1),
        frameon=False,
        borderpad=0.3,
        labelspacing=0.4,
        handlelength=1.4,
    )


def hue(index: int) -> str:
    """Return the colour of the method with this number."""
    return SERIES[index % len(SERIES)]


def marker(index: int) -> str:
    """Return the marker of the method with this number: another one where colours come round again."""
    return MARKERS[(index + index // len(SERIES)) % len(MARKERS)]


def point(colour: int) -> dict[str, Any]:
    """Return the line style of a method's markers."""
    hollow = colour == 0  # the method that learns nothing
    return {
        "marker": marker(colour),
        "color": hue(colour),
        "markerfacecolor": "none" if hollow else hue(colour),
        "markersize": 6.5,
        "markeredgewidth": 1.4 if hollow else 0.0,
    }


def render(figure: Figure, alt: str) -> str:
    """Return the SVG element: sized by its place, with ids of its own, described by `alt`."""
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :].strip(), flags=re.S)
    mark = f"f{digest(text, alt)[:8]}-"
    text = re.sub(r"<[^>]+>", lambda tag: _tag(tag[0], mark), text)
    return visible(text.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1))


def _tag(tag: str, mark: str) -> str:
    """Fit one tag into the page, where several figures stand and the reader chooses type and colours."""
    tag = re.sub(r'\bid="', f'id="{mark}', tag)
    tag = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{mark}", tag)
    tag = re.sub(r"'DejaVu Sans'(?:, '[^']*')*", "system-ui, sans-serif", tag)
    if tag.startswith("<svg"):
        tag = re.sub(r' (?:width|height)="[^"]*"', "", tag)
    for hue, name in _TOKENS.items():
        tag = re.sub(rf"{hue}\b", f"var(--{name}, {hue})", tag)
    return tag
