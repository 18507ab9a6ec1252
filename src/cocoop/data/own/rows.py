"""Rows of (path, class, split), wherever they were read, to the splits of a dataset."""

import csv
import json
import random
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cocoop.data.dataset import Item
from cocoop.errors import CocoopError
from cocoop.utils.display import brief, reason, visible
from cocoop.utils.files import read_lines

# what people call the parts; "" is for a row without a word on it
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
MAX_NAME = 1000  # characters of a class name; CLIP reads some hundred
HELD_OUT = 0.3  # of every class, where the data come without a split
SPLIT_SEED = 0  # of that split: the same for all runs, so that what is held out stays held out


class Row(NamedTuple):
    """One image as the data have it: where it is, its class as spelled there, its split or "" for none."""

    path: str
    cls: str
    split: str = ""


def to_splits(
    rows: Sequence[Row], source: str, names: Mapping[str, str] | None = None
) -> dict[str, tuple[Item, ...]]:
    """Return "train", "val" and "test" items, and further lists if any; labels follow the sorted classes.

    Rows without a split are split here: 30 percent of every class, and at least one image where it has
    two, are held out as "test", drawn with a fixed seed from the paths in order. Where a split
    has "val" but no "test", "val" is what is held out.

    Args:
        rows: in any order.
        source: where they are from, for messages.
        names: class as spelled in the rows to class name; None takes the spelling.

    Raises:
        CocoopError: there are fewer than two classes, a class without training images or without a name,
            two classes of one name, an image listed twice, or a split for some rows only.
    """
    if names is not None:
        rows = [row._replace(cls=_look_up(names, row.cls, source)) for row in rows]
    rows = sorted(row._replace(cls=_normalise(row.cls, source)) for row in rows)
    _check_paths(rows, source)
    classes = sorted({row.cls for row in rows})
    if len(classes) < 2:
        only = f"one class only ({brief(classes[0])})" if classes else "no images"
        raise CocoopError(f"{source} has {only}; a classifier needs images of two or more classes")
    label = {name: index for index, name in enumerate(classes)}
    parts: dict[str, list[Item]] = {"": [], "train": [], "val": [], "test": []}
    for row in rows:
        parts.setdefault(row.split, []).append(Item(row.path, label[row.cls], row.cls))
    if whole := parts.pop(""):
        if any(parts.values()):
            raise CocoopError(
                f"{source} has a split for some images and none for others; give all one, or none"
            )
        parts["train"] = whole
    if not parts["test"]:
        parts["test"], parts["val"] = parts["val"], []
    if not parts["test"]:
        parts["train"], parts["test"] = hold_out(parts["train"], HELD_OUT, random.Random(SPLIT_SEED))
    if missing := sorted(set(classes) - {item.name for item in parts["train"]}):
        raise CocoopError(
            f"{source} has no training images of {_listed(missing)}; add some, or drop the class"
        )
    return {split: tuple(items) for split, items in parts.items()}


def hold_out(items: Sequence[Item], share: float, rng: random.Random) -> tuple[list[Item], list[Item]]:
    """Split items, a share of every class into the second list; at least one image of two, none of one."""
    kept: list[Item] = []
    held_out: list[Item] = []
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    for _, group in sorted(groups.items()):
        count = max(1, round(share * len(group))) if len(group) > 1 else 0
        chosen = set(rng.sample(range(len(group)), count))
        for index, item in enumerate(group):
            (held_out if index in chosen else kept).append(item)
    return kept, held_out


def read_names(path: Path) -> dict[str, str]:
    """Read class names: a JSON object, or a CSV of two columns, from the data's spelling to the name.

    Raises:
        UsageError: the file cannot be read.
        CocoopError: it is neither.
    """
    lines = read_lines(path)
    try:
        if path.suffix.lower() == ".json":
            names = dict(json.loads("\n".join(lines)).items())
        else:
            names = dict(csv.reader(lines))
        if not all(isinstance(name, str) for name in names.values()):
            raise ValueError("a name is no text")
    except (ValueError, AttributeError, RecursionError, csv.Error) as error:
        raise CocoopError(
            f"{path} is no file of names: a JSON object, or a CSV of two columns, folder and name "
            f"({reason(error)})"
        ) from error
    return names


def _look_up(names: Mapping[str, str], cls: str, source: str) -> str:
    if cls not in names:
        raise CocoopError(f"the names file has no name for the class {brief(cls)} of {source}")
    return names[cls]


def _normalise(name: str, source: str) -> str:
    """Return a name with one spelling of its letters, and no blanks around it."""
    if len(name) > MAX_NAME or visible(name) != name:
        raise CocoopError(
            f"{source} has a class of the name {brief(name)}; give it one without control characters "
            f"and of at most {MAX_NAME:,} letters"
        )
    normal = unicodedata.normalize("NFC", name).strip()
    if not normal.replace("_", ""):
        raise CocoopError(f"{source} has a class without a name")
    return normal


def _check_paths(rows: Sequence[Row], source: str) -> None:
    if repeated := [path for path, count in Counter(row.path for row in rows).items() if count > 1]:
        raise CocoopError(f"{source} lists images more than once: {_listed(repeated)}")
    spelled: dict[str, str] = {}
    for name in sorted({row.cls for row in rows}):
        other = spelled.setdefault(" ".join(name.replace("_", " ").lower().split()), name)
        if other != name:
            raise CocoopError(
                f"{source} has two classes of one name: {brief(other)} and {brief(name)}; rename one"
            )


def _listed(names: Sequence[str], shown: int = 5) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(brief, names[:shown])) + rest
