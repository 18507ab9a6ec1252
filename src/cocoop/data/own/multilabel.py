"""Images of several classes or none: how people write them, one reading or the other, and their splits."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pandas.api.types import is_scalar

from cocoop.data.dataset import Item
from cocoop.data.own.reading import ONE, SEVERAL, Found, Reading, Row
from cocoop.data.own.rows import HELD_OUT, SPLIT_SEED, check_names, label_text, listed, normalise, sort_out
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import brief

SEPARATORS = ("|", ";", ",")  # that a text of several classes may have; names have the last one too
Labels = Mapping[str, tuple[str, ...]]  # the classes of every image, by its path


def label_texts(label: object, where: str, sep: str | None = None) -> tuple[str, ...]:
    """Return the classes that a cell names: the elements of a list, or the parts of a text.

    Args:
        label: the cell; a list may be empty, and with a separator a text.
        where: for messages.
        sep: what stands between the classes of a text; None for texts of one class.

    Raises:
        CocoopError: an element is empty or a list itself, or a text between two separators is empty.
    """
    if is_scalar(label):
        text = label_text(label, where)
        if sep is None or not text:
            return (text,) if text else ()
        parts = tuple(part.strip() for part in text.split(sep))
    elif isinstance(label, Mapping):
        raise CocoopError(
            f"{where} has an object for a label, {brief(str(label))}; give a text, or a list of texts"
        )
    else:
        parts = tuple(label_text(each, where) for each in label)  # type: ignore[attr-defined]
    if not all(parts):
        raise CocoopError(f"{where} has a class without a name among {brief(str(label))}")
    return tuple(dict.fromkeys(parts))


def pairs(path: str, classes: Sequence[str], split: str) -> list[Row]:
    """Return the rows of one image: one for each of its classes, and one with "" where it has none."""
    return [Row(path, cls, split) for cls in classes or ("",)]


def check_reading(reading: Reading) -> None:
    """Raise UsageError where what a person says of several classes cannot be."""
    if reading.labels not in (None, ONE, SEVERAL):
        raise UsageError(f"--labels is {ONE} or {SEVERAL}, not {reading.labels!r}")
    if reading.label_sep == "" or (reading.label_sep and reading.labels == ONE):
        raise UsageError(
            "--label-sep is what stands between several classes; leave it out where each has one"
        )


def settle(found: Found, reading: Reading, source: str) -> Found:
    """Decide whether images have one class or several, where the data or a person say so.

    Raises:
        UsageError: a separator was given, and no texts have it.
        CocoopError: both readings are possible, or an image has not one class where each must.
    """
    asked, form = reading.labels, found.form
    if reading.label_sep and form != "parts":
        raise UsageError(f"--label-sep goes with a column of texts, and {source} has its classes elsewhere")
    if asked == SEVERAL or form == "parts":
        return replace(found, several=True)
    counts = Counter(row.path for row in found.rows)
    several = next((path for path, count in counts.items() if count > 1), None)
    none = next((row.path for row in found.rows if not row.cls), None)
    if form == "texts":
        if asked is None:
            _check_separators(found.rows, source)
        return found
    if asked == ONE:
        if odd := several or none:
            has = _quoted([row.cls for row in found.rows if row.path == odd and row.cls])
            raise CocoopError(
                f"{odd} of {source} has {has}; with --labels {ONE} an image must have one class"
            )
        return found
    if several:
        return replace(found, several=True)
    if none or form == "lists":
        what = f"{none} has none" if none else "each of its lists has one"
        raise CocoopError(
            f"{source} can be read in two ways: no image has several classes, and {what}. Say --labels "
            f"{SEVERAL} where an image may have several or none, or --labels {ONE} where each has one"
        )
    return found


def _quoted(classes: Sequence[str]) -> str:
    return f"several classes ({listed(classes)})" if classes else "no class"


def _check_separators(rows: Sequence[Row], source: str) -> None:
    """Raise CocoopError where a class looks like several others with a separator between them."""
    names = {row.cls for row in rows}
    for sep in SEPARATORS:
        parts = {name: tuple(part.strip() for part in name.split(sep)) for name in names}
        joined = {name: each for name, each in parts.items() if len(each) > 1 and all(each)}
        times = Counter(part for each in parts.values() for part in set(each))
        for name, each in sorted(joined.items()):
            known = all(times[part] > 1 for part in each) if sep != "," else names.issuperset(each)
            if known:
                raise CocoopError(
                    f"{source} can be read in two ways: {brief(name)} as one class of this name, or as the "
                    f"classes {listed(each)}. Say --label-sep '{sep}' for several, or --labels {ONE}"
                )


def to_splits(
    rows: Sequence[Row], source: str
) -> tuple[dict[str, tuple[Item, ...]], dict[str, tuple[str, ...]]]:
    """Return the items of every split, and the classes of every image by its path, sorted.

    Splits are those of `cocoop.data.own.rows.to_splits`; where there are none, 30 percent of the images of
    every class are held out, the rarest class first, as an image counts for all of its classes. Items have
    the label -1 and no name.

    Raises:
        CocoopError: as there; an image may have no class, and no class is without training images.
    """
    rows = sorted(row._replace(cls=row.cls and normalise(row.cls, source)) for row in rows)
    check_names({row.cls for row in rows if row.cls}, source)
    labels: dict[str, tuple[str, ...]] = {}
    for row in rows:
        labels[row.path] = tuple(dict.fromkeys((*labels.get(row.path, ()), *([row.cls] if row.cls else ()))))
    split = {row.path: row.split for row in rows}
    parts = sort_out([(split[path], Item(path, -1, "")) for path in labels], source)
    if not parts["test"]:
        parts["train"], parts["test"] = hold_out(parts["train"], labels, HELD_OUT, random.Random(SPLIT_SEED))
    classes = {cls for each in labels.values() for cls in each}
    if missing := sorted(classes - {cls for item in parts["train"] for cls in labels[item.path]}):
        raise CocoopError(
            f"{source} has no training images of {listed(missing)}; add some, or drop the class"
        )
    return {name: tuple(items) for name, items in parts.items()}, labels


def hold_out(
    items: Sequence[Item], labels: Labels, share: float, rng: random.Random
) -> tuple[list[Item], list[Item]]:
    """Split items, a share of the images of every class into the second list.

    Classes come in the order of their size, the smallest first, as in iterative stratification (Sechidis et
    al., ECML 2011): what a class lacks is drawn from its images that no smaller class has drawn from. Images
    of no class come last. At least one image of two is held out, and no class is without a kept one.
    """
    held: set[str] = set()
    placed: set[str] = set()
    groups = _by_class(items, labels)
    for group in groups.values():
        count = max(1, round(share * len(group))) if len(group) > 1 else 0
        free = [item.path for item in group if item.path not in placed]
        lacking = count - sum(item.path in held for item in group)
        held.update(rng.sample(free, min(max(0, lacking), len(free))))
        placed.update(free)
    for name, group in groups.items():
        if name and all(item.path in held for item in group):
            held.discard(group[0].path)
    return [item for item in items if item.path not in held], [item for item in items if item.path in held]


def few_shot(items: Sequence[Item], labels: Labels, shots: int, rng: random.Random) -> tuple[Item, ...]:
    """Draw images until every class has `shots` of them, or all it has, the rarest class first.

    A common class gets more than `shots`, as the images of others have it too. As many of no class are drawn.
    """
    drawn: set[str] = set()
    for group in _by_class(items, labels).values():
        free = [item.path for item in group if item.path not in drawn]
        lacking = shots - (len(group) - len(free))
        drawn.update(rng.sample(free, min(max(0, lacking), len(free))))
    return tuple(item for item in items if item.path in drawn)


def _by_class(items: Sequence[Item], labels: Labels) -> dict[str, list[Item]]:
    """Return the images of every class, the smallest class first, and under "" at the end those of none."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        for name in labels[item.path] or ("",):
            groups.setdefault(name, []).append(item)
    return dict(sorted(groups.items(), key=lambda pair: (not pair[0], len(pair[1]), pair[0])))
