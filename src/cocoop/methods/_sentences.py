"""Sentences about classes: the file that they come from, and what several methods make of them."""

import difflib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from torch import Tensor
from torch.nn import functional as F

from cocoop.errors import CocoopError, UsageError
from cocoop.methods._hooks import Sentences
from cocoop.methods._parts import MARK, path_of, pinned
from cocoop.utils.assets import asset
from cocoop.utils.display import brief, reason, some, visible
from cocoop.utils.files import data_digest

EMBEDDED = "embedded"  # in place of a file: the sentences about the embedded datasets' classes
FORMAT = 'a JSON file {"class name": ["a sentence about it", ...], ...}'
LARGEST = 1 << 26  # bytes; fifty sentences about each of ImageNet's classes are a tenth of it


def spaced(name: str) -> str:
    """Return a name with single blanks for underscores and other gaps."""
    return " ".join(name.replace("_", " ").split())


# How a class name is looked for in a file: as it stands, else with blanks, else in small letters.
SPELLINGS: tuple[Callable[[str], str], ...] = (str, spaced, lambda name: spaced(name).casefold())


def pinned_source(source: str) -> str:
    """Return the setting that says where sentences come from, with the digest of the file's content.

    One that has the digest stays as it is: the file is compared when it is read, so that what was trained
    on sentences is of use where they are not.

    Raises:
        UsageError: there is no such file.
    """
    if not source:
        raise UsageError(f"say where the sentences are: {FORMAT}, or {EMBEDDED!r}")
    return source if source == EMBEDDED or MARK in source else pinned(source)


def read_sentences(source: str, class_names: Sequence[str], method: str) -> list[list[str]]:
    """Return the sentences about every class; there may be others in the file.

    Names match with blanks for underscores, and in small letters where there is one such name alone.

    Args:
        source: a pinned file, or "embedded".
        class_names: the classes.
        method: whose setting `sentences` it is, for messages.

    Raises:
        UsageError: the file cannot be read or is of another format, or has no sentences about a class.
        CocoopError: it holds something else than when it was given.
    """
    known = _load(source)
    found = _match(class_names, known)
    if missing := [name for name in dict.fromkeys(class_names) if name not in found]:
        has = "the embedded file has" if source == EMBEDDED else f"{path_of(source)} has"
        none = f"{has} sentences about none of the {len(missing)} classes, such as {some(missing)}"
        lacks = f"{has} no sentences about {len(missing)} of the classes: {some(missing)}"
        raise UsageError(
            f"{lacks if found else none}.{_near(missing, known)} "
            f"Give them as {FORMAT}: --set {method}.sentences=FILE"
        )
    return [known[found[name]] for name in class_names]


def phrased(descriptor: str) -> str:
    """Return a descriptor as a relative clause, as DCLIP's and WaffleCLIP's released code does.

    Examples:
        >>> [phrased(text) for text in ("a red comb", "often seen on farms", "two legs")]
        ['which is a red comb', 'which often seen on farms', 'which has two legs']
    """
    if descriptor.startswith(("a", "used")):  # whatever begins with this letter
        return f"which is {descriptor}"
    verb = descriptor.startswith(("has", "often", "typically", "may", "can"))
    return f"which {descriptor}" if verb else f"which has {descriptor}"


def class_means(sentences: Sentences, classes: int) -> Float[Tensor, "c d"]:
    """Return the mean of the L2-normalised features of every class's sentences."""
    unit, labels = F.normalize(sentences.features, dim=-1), sentences.labels
    sums = unit.new_zeros(classes, unit.shape[1]).index_add(0, labels, unit)
    counts = unit.new_zeros(classes).index_add(0, labels, torch.ones_like(unit[:, 0]))
    return sums / counts[:, None]


def _load(source: str) -> dict[str, list[str]]:
    """Read and check all sentences of a source."""
    path = asset("descriptions/emoji.json") if source == EMBEDDED else path_of(source)
    data = _bytes(path)
    if source != EMBEDDED and data_digest(data) != source.partition(MARK)[2]:
        raise CocoopError(f"{path} was changed since it was used: it holds something else now")
    try:
        found: dict[str, list[str]] = FILE.validate_python(
            json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once)
        )
        return found
    except ValidationError as error:
        first = error.errors()[0]
        name, *place = first["loc"] or ("",)
        sentence = f"sentence {int(place[0]) + 1} of " if place and isinstance(place[0], int) else ""
        problem = f"{sentence}{brief(str(name))}: {first['msg']}" if first["loc"] else first["msg"]
    except (ValueError, RecursionError) as error:
        problem = reason(error)
    raise UsageError(f"{path} is not {FORMAT}: {problem}")


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} has more than {LARGEST:,} bytes; is it a file of sentences?")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the sentences in {path} cannot be read: {reason(error)}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, of whose equal names Python would keep the last one."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{brief(name)} stands there twice")
        found[name] = value
    return found


def _sentence(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    if visible(text) != text:
        raise ValueError("it holds characters that are no text; remove them")
    return text


FILE = TypeAdapter(
    dict[str, Annotated[list[Annotated[str, AfterValidator(_sentence)]], Field(min_length=1)]],
)


def _match(class_names: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """Return the name in a file for every class name that has one."""
    found: dict[str, str] = {}
    for spelling in SPELLINGS:
        keys = defaultdict(list)
        for key in known:
            keys[spelling(key)].append(key)
        for name in class_names:
            same = keys.get(spelling(name), [])
            if name not in found and len(same) > 1:
                raise UsageError(f"the sentences about {brief(name)} may be those of {some(same)}; keep one")
            if same:
                found.setdefault(name, same[0])
    return found


def _near(missing: Sequence[str], known: Mapping[str, Any]) -> str:
    """Return, as the end of a message, what in a file is written much like the first of the names."""
    near = [key for name in missing[:5] for key in difflib.get_close_matches(spaced(name), known, 1, 0.75)]
    return f" It has some about {some(list(dict.fromkeys(near)))}." if near else ""
