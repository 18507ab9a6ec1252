"""Class names for what the data call the classes: from a file, or found out; and names that say nothing."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from cocoop.data.own.reading import Found
from cocoop.errors import CocoopError
from cocoop.utils.display import brief, reason, some
from cocoop.utils.files import read_lines

AUTO = "auto"  # in place of a file of names: what `readable` finds
WORDNET_ID = re.compile(r"n\d{8}")
NUMBERED = re.compile(r"\d+[.\s_-]+(?=[^\W\d_])")  # 001.Black_footed_Albatross
NUMBER = re.compile(r"(?:(?:class|category|label|cls|cat|c|id)?[\s._-]*\d+[\d.]*)", re.IGNORECASE)


def read_names(path: Path) -> dict[str, tuple[str, ...]]:
    """Read class names: from the data's spelling to the name, and further phrases where there are some.

    A JSON object or a CSV of two columns has both; a list in the one, or further columns of the other, are
    phrases that the class is also called by, the first its name. A JSON list, or a text of one name a line,
    has the names of the classes 0, 1, 2 and so on, unless every line begins with a number or WordNet id.

    Raises:
        UsageError: the file cannot be read.
        CocoopError: it is nothing of these.
    """
    lines = read_lines(path)
    try:
        pairs = _pairs(lines, path.suffix.lower())
        names = {cls: (each,) if isinstance(each, str) else tuple(each) for cls, each in pairs}
        if not all(each and all(isinstance(name, str) for name in each) for each in names.values()):
            raise ValueError("a name is no text")
    except (ValueError, AttributeError, TypeError, RecursionError, csv.Error) as error:
        raise CocoopError(
            f"{path} is no file of names: a JSON object, a CSV of two columns, folder and name, or a text of "
            f"one name a line ({reason(error)})"
        ) from error
    return names


def _pairs(lines: Sequence[str], suffix: str) -> list[tuple[str, str | list[str]]]:
    if suffix == ".json":
        names = json.loads("\n".join(lines))
        return list(names.items()) if not isinstance(names, list) else _numbered(names)
    rows = list(csv.reader(lines))
    if suffix != ".txt" and all(len(row) > 1 for row in rows):
        return [(row[0], [each for each in row[1:] if each.strip()]) for row in rows]
    words = [line.partition(" ") for line in lines]
    keys = [first for first, _, name in words if name and (first.isdigit() or WORDNET_ID.fullmatch(first))]
    if len(keys) == len(set(keys)) == len(lines):
        return [(first, name.strip()) for first, _, name in words]
    if suffix != ".txt" and any(len(row) != 1 for row in rows):
        raise ValueError("its lines do not have two columns")
    return _numbered(lines)


def _numbered(names: Sequence[str]) -> list[tuple[str, str | list[str]]]:
    return [(str(number), name) for number, name in enumerate(names)]


def rename(found: Found, names: Mapping[str, str], source: str) -> Found:
    """Give every class its name. Raises CocoopError for a class without one."""
    if lacking := sorted({row.cls for row in found.rows if row.cls} - names.keys()):
        raise CocoopError(f"the names file has no name for the class {some(lacking)} of {source}")
    return replace(found, rows=[row._replace(cls=row.cls and names[row.cls]) for row in found.rows])


def readable(classes: Sequence[str]) -> dict[str, str]:
    """Return the names of classes that are WordNet ids or numbered names; of others what they are called.

    Examples:
        >>> from cocoop.data.own.names import readable
        >>> readable(["n01440764", "n01443537"])
        {'n01440764': 'tench', 'n01443537': 'goldfish'}
        >>> readable(["001.Black_footed_Albatross", "002.Laysan_Albatross"])["002.Laysan_Albatross"]
        'Laysan Albatross'
    """
    if classes and all(WORDNET_ID.fullmatch(name) for name in classes):
        known = wordnet_names()
        return {name: known.get(name, name) for name in classes}
    if classes and all(NUMBERED.match(name) for name in classes):
        return {name: NUMBERED.sub("", name, count=1).replace("_", " ") for name in classes}
    return {name: name for name in classes}


def wordnet_names() -> dict[str, str]:
    """Return names by WordNet id: CLIP's own for the thousand classes of ImageNet, else the first lemma.

    Both come with open_clip: the names of the thousand, and the ids through timm, which it needs.
    """
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "data" / "_info"
    lemmas = (line.partition("\t") for line in read_lines(folder / "imagenet_synset_to_lemma.txt"))
    names = {identifier: lemma.partition(",")[0] for identifier, _, lemma in lemmas}
    ids = read_lines(folder / "imagenet_synsets.txt")
    return names | dict(zip(ids, IMAGENET_CLASSNAMES, strict=True))


def name_warnings(classes: Sequence[str]) -> list[str]:
    """Say which class names mean nothing to CLIP, and what to do."""
    better = {name: new for name, new in readable(classes).items() if new != name}
    if better:
        name, new = next(iter(better.items()))
        return [
            f"class names such as {brief(name)} are read as they stand; --names auto reads "
            f"{brief(new)} and the like, --names FILE any others"
        ]
    if empty := [name for name in classes if NUMBER.fullmatch(name) or WORDNET_ID.fullmatch(name)]:
        return [
            f"class names such as {some(empty, 2)} say nothing to CLIP; give words with --names FILE, a JSON "
            "object or a CSV of two columns"
        ]
    return []
