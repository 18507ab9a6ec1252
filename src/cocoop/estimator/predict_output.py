"""What `cocoop predict` prints: a table to read, or JSON and CSV, which are complete."""

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from cocoop.errors import UsageError
from cocoop.estimator.predict import Measure, Prediction, shown
from cocoop.utils.display import harmless, on_one_line, readable_json

UNSURE = "unsure"
NONE = "none of these"
BETWEEN = "|"  # several names in a cell of a CSV
WIDEST = 60  # characters of a path in a table


def check_csv(names: Sequence[str]) -> None:
    """Raise UsageError where names of which an image may have several cannot be told apart in one cell."""
    if bad := [name for name in names if BETWEEN in name]:
        raise UsageError(f"{bad[0]!r} has a {BETWEEN}, which stands between names in CSV; take --format json")


def as_table(
    predictions: Iterator[Prediction], paths: Sequence[Path], by: Measure = "probability"
) -> Iterator[str]:
    """Yield a line for each prediction, the names under each other."""
    form = {"probability": "{} {:.0%}", "similarity": "{} {:.3f}", "score": "{} {:.2f}"}[by]
    width = min(WIDEST, max(len(on_one_line(shown(path))) for path in paths))
    for each in predictions:
        if each.names is not None:
            rest = [form.format(*one) for one in each.top]
            first = ", ".join(each.names) or NONE
        else:
            rest = [form.format(*one) for one in (each.top[1:] if each.sure else each.top)]
            first = form.format(*each.top[0]) if each.sure else UNSURE
        more = f"  ({', '.join(rest)})" if rest else ""
        yield f"{on_one_line(each.path):{width}}  {on_one_line(first + more)}\n"


def as_json(predictions: Iterator[Prediction], by: Measure = "probability") -> Iterator[str]:
    """Yield the pieces of a JSON list with an object for each prediction."""
    before = "["
    for each in predictions:
        top = [{"name": name, by: round(chance, 6)} for name, chance in each.top]
        named = {"name": each.name} if each.names is None else {"names": each.names}
        rough = {} if each.testing == "exact" else {"testing": each.testing}
        line = readable_json({"path": each.path, **named, "top": top, **rough})
        yield f"{before}\n  {line}"
        before = ","
    yield "\n]\n"


def as_csv(predictions: Iterator[Prediction], columns: int, by: Measure = "probability") -> Iterator[str]:
    """Yield CSV lines: path, name, and the likeliest names with their probabilities or similarities.

    Where an image may have several, they are in one cell called `names`, with a bar between them; `check_csv`
    looks at them first. A text that a spreadsheet would take for a formula has an apostrophe put before it.
    """
    numbers = range(1, columns + 1)
    head = [f"{what}_{i}" for i in numbers for what in ("name", by)]
    first = next(predictions, None)
    several = first is not None and first.names is not None
    yield _line(["path", "names" if several else "name", *head])
    for each in chain([first] if first else [], predictions):
        top = [value for name, chance in each.top for value in (harmless(name), f"{chance:.6f}")]
        names = (each.name or "") if each.names is None else BETWEEN.join(each.names)
        yield _line([harmless(each.path), harmless(names), *top])


WRITERS: dict[str, Callable[[Iterator[Prediction], Sequence[Path], int, Measure], Iterator[str]]] = {
    "table": lambda predictions, paths, columns, by: as_table(predictions, paths, by),
    "json": lambda predictions, paths, columns, by: as_json(predictions, by),
    "csv": lambda predictions, paths, columns, by: as_csv(predictions, columns, by),
}


def write(pieces: Iterator[str]) -> None:
    """Write pieces to stdout as they come."""
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()


def _line(values: Sequence[str]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(values)
    return file.getvalue()
