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
        phrases: all that it is called in prompts; none for its name alone.
    """

    name: str
    phrases: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[str, ...]:
        """The phrases beside the name."""
        return tuple(each for each in self.phrases if each != self.name)


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


def named(name: str, others: Sequence[str] = ()) -> Name:
    """Return a class that is called by its name and by others. Raises UsageError as `clean` does."""
    phrases = tuple(dict.fromkeys(map(clean, (name, *others))))
    return Name(phrases[0], phrases if len(phrases) > 1 else ())


def called(names: Sequence[Name]) -> Mapping[str, tuple[str, ...]]:
    """Return what every class is called in prompts."""
    return {each.name: each.phrases or (each.name,) for each in names}
