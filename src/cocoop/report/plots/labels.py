"""Where to write names beside points so that they hide nothing."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

Box = tuple[float, float, float, float]  # left, bottom, right, top
Side = Literal["left", "center", "right"]

SIZE = 9.5  # of the type, in pixels
_GAP = 6.0
_MARKER = 4.0


def place(
    lines: Mapping[str, np.ndarray], taken: Sequence[Box], frame: Any
) -> Iterator[tuple[str, tuple[float, float], Side]]:
    """Yield where every name is written that has room beside one of its markers: a point, and which
    side of the name is there; the point is at the foot of the name.

    Markers, names and `taken` are never written over; lines only where there is no other place.

    Args:
        lines: name to the markers of its line, (n, 2) in pixels.
        taken: where nothing may be written.
        frame: the box, with x0, y0, x1 and y1, to stay inside of.
    """
    filled = [*taken, *(_around(x, y, _MARKER) for line in lines.values() for x, y in line)]
    crossed = [_around(x, y, 1.0) for line in lines.values() for x, y in _along(line)]
    for name, line in lines.items():
        width = 0.62 * SIZE * len(name)
        spots = [spot for x, y in line for spot in _spots(x, y)]
        boxes = [(_box(*spot, width), spot) for spot in spots]
        free = [(box, spot) for box, spot in boxes if _inside(box, frame) and not _hits(box, filled)]
        clear = [(box, spot) for box, spot in free if not _hits(box, crossed)]
        for box, (x, y, side) in (clear or free)[:1]:
            filled.append(box)
            yield name, (x, y), side


def _spots(x: float, y: float) -> Iterator[tuple[float, float, Side]]:
    """Yield places beside, above, below and diagonally off a point, the best first."""
    middle, over, under = y - SIZE / 2, y + _GAP, y - _GAP - SIZE
    yield from ((x + _GAP, middle, "left"), (x - _GAP, middle, "right"))
    yield from ((x, over, "center"), (x, under, "center"))
    for foot in (y + 2, y - 2 - SIZE):
        yield from ((x + _GAP, foot, "left"), (x - _GAP, foot, "right"))


def _box(x: float, y: float, side: Side, width: float) -> Box:
    left = x - {"left": 0.0, "center": 0.5, "right": 1.0}[side] * width
    return left, y, left + width, y + SIZE


def _along(line: np.ndarray, step: float = 4.0) -> Iterator[np.ndarray]:
    """Yield points along a line, closer than names are high."""
    for start, end in pairwise(line):
        for share in np.linspace(0, 1, 2 + int(np.linalg.norm(end - start) / step)):
            yield start + share * (end - start)


def _around(x: float, y: float, size: float) -> Box:
    return x - size, y - size, x + size, y + size


def _inside(box: Box, frame: Any) -> bool:
    return bool(box[0] >= frame.x0 and box[2] <= frame.x1 and box[1] >= frame.y0 and box[3] <= frame.y1)


def _hits(box: Box, others: Sequence[Box]) -> bool:
    return any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in others)
