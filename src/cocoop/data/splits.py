"""Pure functions from item lists to item lists: reading a split, drawing shots, cutting base and new."""

import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from cocoop.data.dataset import Item
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import LONGEST, brief

Subset = Literal["all", "base", "new"]
SUBSETS: tuple[Subset, ...] = ("all", "base", "new")

MAX_VAL_SHOTS = 4  # the benchmark draws min(shots, 4) validation images a class

_SPLITS = TypeAdapter(dict[str, tuple[Item, ...]])
_OUTSIDE = re.compile(
    r"^[/\\]|^[A-Za-z]:|(^|[/\\])[. ]*\.\.[. ]*([/\\]|$)|\0"
)  # absolute, or with "..", in the spelling of any system; or what no system takes for a path


def read_split(path: Path) -> dict[str, tuple[Item, ...]]:
    """Read a split file of the CoOp benchmark: {"train": [[path, label, name], ...], "val": ..., ...}.

    Raises:
        CocoopError: the file is not such a split, a path leaves the dataset's root, or labels and names
            do not fit (see `check_labels`).
    """
    try:
        splits = _SPLITS.validate_json(path.read_bytes())
    except OSError as error:
        raise CocoopError(f"the split file {path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = " ".join(map(str, first["loc"]))[:LONGEST] or "whole file"
        raise CocoopError(
            f"{path} is not a split file of [path, label, name] rows ({where}: {first['msg']})"
        ) from error
    if missing := {"train", "val", "test"} - splits.keys():
        present = ", ".join(map(repr, splits))[:LONGEST] or "nothing"
        raise CocoopError(f"{path} lacks the list(s) {', '.join(sorted(missing))}; it has {present}")
    for item in (item for items in splits.values() for item in items):
        if leaves(item.path):
            raise CocoopError(f"{path}: the path {brief(item.path)} leaves the dataset's folder")
    check_labels(splits, path)
    return splits


def leaves(path: str) -> bool:
    """Whether a path, relative to a folder, could lead out of it on some system."""
    return _OUTSIDE.search(path) is not None


def check_labels(splits: Mapping[str, Sequence[Item]], source: Path) -> None:
    """Check that labels are 0, 1, 2, ... with one name each, the same in all lists.

    Raises:
        CocoopError: they are not, or there are no images; the message names `source` and the label.
    """
    names: dict[int, str] = {}
    for items in splits.values():
        for label, name in dict.fromkeys((item.label, item.name) for item in items):
            if names.setdefault(label, name) != name:
                raise CocoopError(
                    f"{source}: the label {label} has two names, {brief(names[label])} and {brief(name)}; "
                    "give it one"
                )
    if not names:
        raise CocoopError(f"{source}: there are no images")
    if gaps := [label for label in range(len(names)) if label not in names]:
        ends = f"(they run from {min(names)} to {max(names)})"
        raise CocoopError(
            f"{source}: labels must run from 0 without a gap; {gaps[0]} is missing {ends[:LONGEST]}"
        )
    first = "train" if "train" in splits else "test"
    if without := sorted(names.keys() - {item.label for item in splits[first]}):
        label = without[0]
        raise CocoopError(f"{source}: the label {label} ({brief(names[label])}) has no images in {first!r}")


def few_shot(items: Sequence[Item], shots: int, rng: random.Random) -> tuple[Item, ...]:
    """Draw up to `shots` images of every class, classes in order of first appearance.

    A class with fewer images gives all it has. Seeding `rng` with the run's seed and drawing first
    from the training and then, with min(shots, 4), from the validation list gives the published
    draws of the CoOp benchmark.

    Raises:
        UsageError: `shots` is below 1.

    Examples:
        >>> import random
        >>> from cocoop.data import Item
        >>> labels = {"a": 0, "b": 1}
        >>> items = [Item(f"{name}/{n}.png", labels[name], name) for name in labels for n in range(4)]
        >>> [item.path for item in few_shot(items, 2, random.Random(1))]
        ['a/1.png', 'a/2.png', 'b/0.png', 'b/1.png']
    """
    if shots < 1:
        raise UsageError(f"shots must be at least 1, not {shots}")
    by_label: dict[int, list[Item]] = {}
    for item in items:
        by_label.setdefault(item.label, []).append(item)
    drawn: list[Item] = []
    for group in by_label.values():
        drawn += rng.sample(group, shots) if len(group) >= shots else group
    return tuple(drawn)


def draw(splits: Mapping[str, Sequence[Item]], shots: int, seed: int) -> dict[str, tuple[Item, ...]]:
    """Draw the "train" and "val" shots of one seed over all classes (cut subsets afterwards)."""
    rng = random.Random(seed)
    train = few_shot(splits["train"], shots, rng)
    val = few_shot(splits.get("val", ()), min(shots, MAX_VAL_SHOTS), rng)
    return {"train": train, "val": val}


def validation_shots(splits: Mapping[str, Sequence[Item]], shots: int, seed: int) -> tuple[Item, ...]:
    """Draw the images to select on: the "val" shots, or without that list training images that are left."""
    drawn = draw(splits, shots, seed)
    if "val" in splits:
        return drawn["val"]
    taken = set(drawn["train"])
    left = [item for item in splits["train"] if item not in taken]
    return few_shot(left, min(shots, MAX_VAL_SHOTS), random.Random(seed))


def subset_labels(labels: Iterable[int], subset: Subset) -> tuple[int, ...]:
    """Return the labels of a subset: base is the first ceil(n/2) of the sorted labels, new the rest.

    Examples:
        >>> subset_labels(range(5), "base"), subset_labels(range(5), "new")
        ((0, 1, 2), (3, 4))
    """
    ordered = sorted(set(labels))
    middle = math.ceil(len(ordered) / 2)
    return {
        "all": tuple(ordered),
        "base": tuple(ordered[:middle]),
        "new": tuple(ordered[middle:]),
    }[subset]


def select(items: Sequence[Item], labels: Sequence[int]) -> tuple[Item, ...]:
    """Keep the items with one of `labels`, relabelled by their place in that list.

    Examples:
        >>> from cocoop.data import Item
        >>> select([Item("a.png", 3, "pear"), Item("b.png", 4, "plum")], [4])
        (Item(path='b.png', label=0, name='plum'),)
    """
    place = {label: index for index, label in enumerate(labels)}
    return tuple(item._replace(label=place[item.label]) for item in items if item.label in place)
