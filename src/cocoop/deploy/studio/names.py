"""The names that images are labelled with, and the phrases that CLIP reads for them."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cocoop.errors import UsageError
from cocoop.utils.display import brief, visible

LONGEST = 200  # characters


@dataclass(frozen=True)
class Name:
    """A class.

    Attributes:
        name: what a person calls it.
        phrases: what it is called in prompts beside that.
    """

    name: str
    phrases: tuple[str, ...] = ()


def clean(name: str) -> str:
    """Return a name or phrase on one line, with one spelling of its letters.

    Raises:
        UsageError: there is nothing left, it is too long, or has characters that only control.
    """
    normal = " ".join(unicodedata.normalize("NFC", name).split())
    if not normal.replace("_", ""):
        raise UsageError("a name needs a letter or a sign; this one is empty")
    if len(normal) > LONGEST or visible(normal) != normal:
        raise UsageError(
            f"{brief(visible(normal))} cannot be a name: give one of at most {LONGEST} characters, without "
            "control characters"
        )
    return normal


def called(names: Sequence[Name]) -> Mapping[str, tuple[str, ...]]:
    """Return what every class is called in prompts, its name first."""
    return {each.name: (each.name, *each.phrases) for each in names}
