"""Which column of a table holds the images, which the classes, which the split."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cocoop.data.own.reading import Reading
from cocoop.errors import CocoopError, unknown
from cocoop.utils.display import LONGEST, brief

# what people call them, the first of each as this package does
USUAL = {
    "path": (
        *("path", "file_name", "filename", "file", "filepath", "file_path", "image", "image_path"),
        *("image_name", "image_file", "img", "img_path", "img_name", "url", "image_url"),
    ),
    "label": (
        *("label", "labels", "class", "classes", "category", "target"),
        *("label_name", "class_name", "category_name", "class_label", "label_text"),
    ),
    "split": ("split", "set", "subset", "partition", "data_split"),
}
BOXES = {"xmin", "x_min", "bbox", "bbox_x", "segmentation"}
SHOWN = 20  # columns in a message

Values = Callable[[str], Sequence[object]]  # of a column


@dataclass(frozen=True)
class Columns:
    """The names of the columns; "" for a label or a split that there is not."""

    path: str
    label: str
    split: str


def pick(names: Sequence[str], reading: Reading, source: str, values: Values) -> tuple[Columns, list[str]]:
    """Choose the columns; return them with what is to be said of it.

    Args:
        names: of all columns.
        reading: the columns that were asked for.
        source: for messages, e.g. "the table a.csv".
        values: of a column, to see whether two columns of labels say the same.

    Raises:
        UsageError: a column that was asked for is not there.
        CocoopError: there is no column of images, there are several of something, or boxes.
    """
    if boxes := [name for name in names if _usual(name) in BOXES]:
        raise CocoopError(
            f"{source} holds boxes (column {brief(boxes[0])}), which are for detection: an image has "
            "several. Cut the boxes out into one folder for each class, see 'Boxes' in docs/own-data.md"
        )
    path = _one("path", names, reading.path_column, source)
    if not path:
        raise CocoopError(
            f"{source} lacks the column 'path'; it has {_listed(names)}; say which one holds the images with "
            "--path-column"
        )
    rest = [name for name in names if name != path]
    found = [] if reading.label_column else _candidates("label", rest)
    label = (
        _one("label", rest, reading.label_column, source) if len(found) < 2 else _same(found, source, values)
    )
    split = _one("split", [name for name in rest if name != label], reading.split_column, source)
    notes = [
        f"{what}s are those of the column {brief(name)}"
        for what, name in (("path", path), ("label", label), ("split", split))
        if name and name != what and name != getattr(reading, f"{what}_column")
    ]
    return Columns(path, label, split), notes


def tells_paths(names: Sequence[str], reading: Reading) -> bool:
    """Whether a table has a column of images."""
    return reading.path_column in names or any(is_usual("path", name) for name in names)


def tells_labels(names: Sequence[str], reading: Reading) -> bool:
    """Whether a table has a column of classes, or boxes."""
    usual = any(is_usual("label", name) or _usual(name) in BOXES for name in names)
    return usual or reading.label_column in names


def is_usual(kind: str, name: str) -> bool:
    """Whether a column has a usual name of those of a kind."""
    return _usual(name) in USUAL[kind]


def lacks_label(names: Sequence[str], source: str) -> CocoopError:
    """Return the error for data without a column of classes."""
    return CocoopError(
        f"{source} lacks the column 'label'; it has {_listed(names)}; say which one holds the classes with "
        "--label-column"
    )


def _one(kind: str, names: Sequence[str], asked: str | None, source: str) -> str:
    """Return the column that was asked for, else the one of a usual name, or "" without any."""
    if asked is not None:
        if asked not in names:
            raise unknown(f"column of {source}", asked, names[:SHOWN])
        return asked
    found = _candidates(kind, names)
    if len(found) > 1 and kind not in found:
        raise _several(kind, found, source)
    return kind if kind in found else found[0] if found else ""


def _same(found: Sequence[str], source: str, values: Values) -> str:
    """Return one of several columns of labels that are the same in other words; words before numbers."""
    columns = {name: [str(value).strip() for value in values(name)] for name in found}
    rows = set(zip(*columns.values(), strict=True))
    if any(len(set(column)) != len(rows) for column in columns.values()):
        raise _several("label", found, source)
    worded = [name for name, column in columns.items() if not all(_is_number(value) for value in column)]
    return (worded or list(found))[0]


def _several(kind: str, found: Sequence[str], source: str) -> CocoopError:
    options = " or ".join(f"--{kind}-column {name}" for name in found[:SHOWN])
    return CocoopError(
        f"{source} has {len(found)} columns that may be the {kind}: {_listed(found)}; say which: {options}"
    )


def _candidates(kind: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if is_usual(kind, name)]


def _usual(name: str) -> str:
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).removeprefix("-").isdigit()


def _listed(names: Sequence[str]) -> str:
    present = ", ".join(map(repr, map(str, names[:SHOWN])))
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{present[:LONGEST] or 'none'}{more}"
