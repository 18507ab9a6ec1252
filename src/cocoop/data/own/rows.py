"""Rows of (path, class, split), wherever they were read, to the splits of a dataset."""

import random
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from pandas.api.types import is_scalar

from cocoop.data.dataset import Item
from cocoop.data.own.reading import Found, Row
from cocoop.errors import CocoopError
from cocoop.utils.display import brief, visible

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


def to_splits(rows: Sequence[Row], source: str) -> dict[str, tuple[Item, ...]]:
    """Return "train", "val" and "test" items, and further lists if any; labels follow the sorted classes.

    Rows without a split are split here: 30 percent of every class, and at least one image where it has
    two, are held out as "test", drawn with a fixed seed from the paths in order. Where a split
    has "val" but no "test", "val" is what is held out.

    Args:
        rows: in any order.
        source: where they are from, for messages.

    Raises:
        CocoopError: there are fewer than two classes, a class without training images or without a name,
            two classes of one name, an image listed twice, or a split for some rows only.
    """
    rows = sorted(row._replace(cls=normalise(row.cls, source)) for row in rows)
    check_paths([row.path for row in rows], source)
    check_names({row.cls for row in rows}, source)
    classes = sorted({row.cls for row in rows})
    label = {name: index for index, name in enumerate(classes)}
    parts = sort_out([(row.split, Item(row.path, label[row.cls], row.cls)) for row in rows], source)
    if not parts["test"]:
        parts["train"], parts["test"] = hold_out(parts["train"], HELD_OUT, random.Random(SPLIT_SEED))
    if missing := sorted(set(classes) - {item.name for item in parts["train"]}):
        raise CocoopError(
            f"{source} has no training images of {listed(missing)}; add some, or drop the class"
        )
    return {split: tuple(items) for split, items in parts.items()}


def sort_out(items: Sequence[tuple[str, Item]], source: str) -> dict[str, list[Item]]:
    """Return items by their split; without a "test" list "val" is what is held out.

    Raises:
        CocoopError: there is a split for some items only.
    """
    parts: dict[str, list[Item]] = {"": [], "train": [], "val": [], "test": []}
    for split, item in items:
        parts.setdefault(split, []).append(item)
    if whole := parts.pop(""):
        if any(parts.values()):
            raise CocoopError(
                f"{source} has a split for some images and none for others; give all one, or none"
            )
        parts["train"] = whole
    if not parts["test"]:
        parts["test"], parts["val"] = parts["val"], []
    return parts


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


def label_text(label: object, where: str) -> str:
    """Return a label as a text, "" for none. Raises CocoopError for a list, or a text that is one."""
    if not is_scalar(label):
        several = str(label)
    elif label is None or label != label:
        return ""
    else:
        text = str(int(label)) if isinstance(label, float) and label.is_integer() else str(label).strip()
        if not (text.startswith("[") and text.endswith("]")):
            return text
        several = text
    raise CocoopError(
        f"{where} has a list for a label, {brief(several)}; an image has one class here. Several are written "
        "as lists in a .jsonl or .parquet, or as a text with a separator and --label-sep"
    )


def one_spelling(found: Found) -> Found:
    """Take class names that differ in case, blanks or underscores for one, in the usual spelling."""
    spelled: dict[str, Counter[str]] = {}
    for row in found.rows:
        spelled.setdefault(same_name(row.cls), Counter())[row.cls] += 1
    several = {key: counts for key, counts in spelled.items() if len(counts) > 1}
    if not several:
        return found
    taken = {key: min(counts, key=lambda name: (-counts[name], name)) for key, counts in several.items()}
    rows = [row._replace(cls=taken.get(same_name(row.cls), row.cls)) for row in found.rows]
    notes = [
        f"{' and '.join(map(brief, sorted(counts)))} are one class, {brief(taken[key])}"
        for key, counts in sorted(several.items())
    ]
    return replace(found, rows=rows, notes=(*found.notes, *notes))


def same_name(name: str) -> str:
    """Return what two names have in common that CLIP reads alike: not case, blanks or underscores."""
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").lower().split())


def normalise(name: str, source: str) -> str:
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


def check_paths(paths: Sequence[str], source: str) -> None:
    """Raise CocoopError where an image is listed more than once."""
    if repeated := [path for path, count in Counter(paths).items() if count > 1]:
        raise CocoopError(f"{source} lists images more than once: {listed(repeated)}")


def check_names(classes: Collection[str], source: str) -> None:
    """Raise CocoopError where there are fewer than two classes, or two of one name."""
    if len(classes) < 2:
        only = f"one class only ({brief(next(iter(classes)))})" if classes else "no images"
        raise CocoopError(f"{source} has {only}; a classifier needs images of two or more classes")
    spelled: dict[str, str] = {}
    for name in sorted(classes):
        other = spelled.setdefault(same_name(name), name)
        if other != name:
            raise CocoopError(
                f"{source} has two classes of one name: {brief(other)} and {brief(name)}; rename one"
            )


def listed(names: Sequence[str], shown: int = 5) -> str:
    """Return the first of some names for a message, and how many more there are."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(brief, names[:shown])) + rest
