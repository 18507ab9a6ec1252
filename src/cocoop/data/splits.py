"""Pure functions from item lists to item lists: reading a split, drawing shots, cutting base and new."""

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from cocoop.data.spec import Item
from cocoop.errors import CocoopError, UsageError

Subset = Literal["all", "base", "new"]
SUBSETS: tuple[Subset, ...] = ("all", "base", "new")

MAX_VAL_SHOTS = 4  # the benchmark draws min(shots, 4) validation images a class


def read_split(path: Path) -> dict[str, tuple[Item, ...]]:
    """Read a split file of the CoOp benchmark: {"train": [[path, label, name], ...], "val": ..., ...}.

    Raises:
        CocoopError: the file is not such a split, or a path leaves the dataset's root.
    """
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
        splits = {key: tuple(Item(str(p), int(y), str(n)) for p, y, n in rows) for key, rows in parts.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CocoopError(f"{path} is not a split file of [path, label, name] rows: {error}") from error
    if missing := {"train", "val", "test"} - splits.keys():
        raise CocoopError(f"{path} lacks the list(s) {', '.join(sorted(missing))}")
    for item in (item for items in splits.values() for item in items):
        parts_of_path = PurePosixPath(item.path)
        if parts_of_path.is_absolute() or ".." in parts_of_path.parts:
            raise CocoopError(f"{path}: the path {item.path!r} leaves the dataset's folder")
    return splits


def few_shot(items: Sequence[Item], shots: int, rng: random.Random) -> tuple[Item, ...]:
    """Draw up to `shots` images of every class, classes in order of first appearance.

    A class with fewer images gives all it has. Seeding `rng` with the run's seed and drawing first
    from the training and then, with min(shots, 4), from the validation list gives the published
    draws of the CoOp benchmark.

    Raises:
        UsageError: `shots` is below 1.
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
    val = few_shot(splits["val"], min(shots, MAX_VAL_SHOTS), rng) if splits["val"] else ()
    return {"train": train, "val": val}


def subset_labels(labels: Iterable[int], subset: Subset) -> tuple[int, ...]:
    """Return the labels of a subset: base is the first ceil(n/2) of the sorted labels, new the rest."""
    ordered = sorted(set(labels))
    middle = math.ceil(len(ordered) / 2)
    return {
        "all": tuple(ordered),
        "base": tuple(ordered[:middle]),
        "new": tuple(ordered[middle:]),
    }[subset]


def select(items: Sequence[Item], labels: Sequence[int]) -> tuple[Item, ...]:
    """Keep the items with one of `labels`, relabelled by their place in that list."""
    place = {label: index for index, label in enumerate(labels)}
    return tuple(item._replace(label=place[item.label]) for item in items if item.label in place)
