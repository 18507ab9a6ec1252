"""WordNet's nouns: what they are called, what they mean, and what they are kinds of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

PHYSICAL = "physical entity"  # what can be photographed is a kind of this one


@dataclass(frozen=True)
class Noun:
    """One meaning: its words, the first being the usual one, its definition, and the meanings above it."""

    words: tuple[str, ...]
    gloss: str
    above: tuple[str, ...]


class WordNet:
    """The nouns of a `dict` folder of WordNet 3.1, by offset, and the meanings of every word.

    Args:
        folder: holds `data.noun` and `index.noun`.
    """

    def __init__(self, folder: Path) -> None:
        self.nouns = dict(map(_noun, _lines(folder / "data.noun")))
        self.meanings = dict(map(_entry, _lines(folder / "index.noun")))
        self.kinds = cache(self._kinds)

    def physical(self, offset: str) -> bool:
        """Whether it is a kind of physical entity."""
        return any(PHYSICAL in self.nouns[each].words for each in self.kinds(offset))

    def _kinds(self, offset: str) -> frozenset[str]:
        """The meaning itself and all those it is a kind of."""
        above = (self.kinds(each) for each in self.nouns[offset].above)
        return frozenset({offset}).union(*above)

    def find(self, words: str, gloss: str) -> str:
        """The offset of the meaning that shares most words and letters of its definition with these.

        ImageNet numbers its classes by WordNet 3.0, whose offsets are not those of 3.1.
        """
        wanted = {word.strip().lower() for word in words.split(",")}
        offsets = {each for word in wanted for each in self.meanings.get(word, ())}

        def likeness(offset: str) -> float:
            noun = self.nouns[offset]
            own = {word.lower() for word in noun.words}
            return len(own & wanted) / len(own | wanted) + _shared(noun.gloss, gloss)

        return max(sorted(offsets), key=likeness)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(" ")]


def _noun(line: str) -> tuple[str, Noun]:
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    count = int(fields[3], 16)
    words = tuple(fields[4 + 2 * number].replace("_", " ") for number in range(count))
    pointers = fields[5 + 2 * count :]
    pairs = zip(pointers[::4], pointers[1::4], strict=False)
    return fields[0], Noun(words, gloss.strip(), tuple(at for kind, at in pairs if kind in ("@", "@i")))


def _entry(line: str) -> tuple[str, tuple[str, ...]]:
    fields = line.split()
    return fields[0].replace("_", " "), tuple(fields[-int(fields[2]) :])


def _shared(one: str, other: str) -> float:
    """The share of the words of two definitions that is in both."""
    a, b = set(one.lower().split()), set(other.lower().split())
    return len(a & b) / max(1, len(a | b))
