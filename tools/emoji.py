"""The emoji vocabulary: one Unicode name for each emoji, its group, and each vendor's drawing of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import icons as iconify
from fxemoji_names import FXEMOJI_NAMES
from names import squash

PRETRAINING = ("noto", "noto-v1", "fxemoji", "streamline-emojis")
COLOUR = ("twemoji", "emojione", "fluent-emoji", "fluent-emoji-flat", "fluent-3d")
MONOCHROME = ("fluent-emoji-high-contrast", "emojione-monotone")
VENDORS = PRETRAINING + COLOUR + MONOCHROME
ICON_SETS = tuple(vendor for vendor in VENDORS if vendor != "fluent-3d")

GROUPS: dict[str, str] = {
    "Activities": "activities", "Animals & Nature": "animals", "Food & Drink": "food",
    "Objects": "objects", "People & Body": "people", "Smileys & Emotion": "smileys",
    "Symbols": "symbols", "Travel & Places": "travel",
}  # fmt: skip

_GENDERED = re.compile(r"^(man|woman|men|women)-|-(man|woman|men|women)(-|$)|^family-|^couple|^kiss$|^kiss-")
_TONED = re.compile(r"-skin-tone|-(light|medium|dark|medium-light|medium-dark)$")
_NUMBERED = re.compile(r"-\d+$")


@dataclass(frozen=True)
class Emoji:
    """One emoji: its CLDR-like name with hyphens, and its Unicode group."""

    slug: str
    group: str

    @property
    def name(self) -> str:
        return self.slug.replace("-", " ")


@dataclass(frozen=True)
class Vocabulary:
    """All known emoji, and the ways to find one: by codepoints or by any vendor's spelling."""

    emoji: dict[str, Emoji]
    by_code: dict[str, str]
    by_spelling: dict[str, str]

    def find(self, spelling: str, code: str | None = None) -> Emoji | None:
        slug = self.by_code.get(code) if code else None
        slug = slug or self.by_spelling.get(squash(spelling))
        return self.emoji.get(slug) if slug else None


def is_variant(slug: str) -> bool:
    """Skin tones, gendered variants and flags: drawings of another emoji, not classes of their own."""
    return bool("skin-tone" in slug or _GENDERED.search(slug) or slug.startswith("flag-"))


def code_key(code: str) -> str:
    """Codepoints without the variation selector, which vendors write or leave out at will."""
    parts = [p.lower().lstrip("0") or "0" for p in re.split(r"[-_ ]", code)]
    return "-".join(p for p in parts if p != "fe0f")


def vocabulary(sets: dict[str, dict[str, Any]]) -> Vocabulary:
    """The emoji of the newest two vendors, with every spelling that any vendor's aliases give."""
    emoji: dict[str, Emoji] = {}
    by_code: dict[str, str] = {}
    spelling: dict[str, str] = {}
    for vendor in ("noto", "twemoji"):
        for category, slugs in sets[vendor]["categories"].items():
            for slug in slugs if category in GROUPS else ():
                # An emoji known under another spelling or code keeps its first name.
                if squash(slug) not in spelling:
                    emoji[slug] = Emoji(slug, GROUPS[category])
                    spelling[squash(slug)] = slug
        for code, slug in sets[vendor].get("chars", {}).items():
            if squash(slug) in spelling:
                by_code.setdefault(code_key(code), spelling[squash(slug)])
        _add_aliases(sets[vendor], spelling)
    for icon_set in sets.values():
        _add_aliases(icon_set, spelling)
    return Vocabulary(emoji, by_code, spelling)


def _add_aliases(icon_set: dict[str, Any], spelling: dict[str, str]) -> None:
    """An alias and its parent spell one emoji; whichever is known names the other."""
    for alias, entry in icon_set.get("aliases", {}).items():
        if "hFlip" in entry or "rotate" in entry:
            continue
        first, second = squash(alias), squash(entry["parent"])
        if second in spelling:
            spelling.setdefault(first, spelling[second])
        elif first in spelling:
            spelling[second] = spelling[first]


def load_sets(package: Path) -> dict[str, dict[str, Any]]:
    return {prefix: iconify.load_set(package, prefix) for prefix in ICON_SETS}


def set_drawings(vendor: str, icon_set: dict[str, Any], words: Vocabulary) -> dict[str, str]:
    """Emoji slug -> the vendor's icon name; the plainest spelling wins when several fit."""
    codes: dict[str, str] = {}
    for code, name in icon_set.get("chars", {}).items():
        codes.setdefault(name, code_key(code))
    found: dict[str, str] = {}
    candidates = [n for n in (*icon_set["icons"], *icon_set.get("aliases", {})) if not _TONED.search(n)]
    for name in sorted(candidates, key=lambda n: (n not in icon_set["icons"], len(n), n)):
        plain = FXEMOJI_NAMES.get(name, name) if vendor == "fxemoji" else name
        match = words.find(plain, codes.get(name))
        if match is None and vendor == "streamline-emojis":
            match = words.find(_NUMBERED.sub("", name))
        if match is not None:
            found.setdefault(match.slug, name)
    return found


def coded_drawings(folder: Path, words: Vocabulary) -> dict[str, Path]:
    """Emoji slug -> image file, for a folder whose files are named by codepoints."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.webp")):
        slug = words.by_code.get(code_key(path.stem))
        if slug is not None:
            found.setdefault(slug, path)
    return found


def all_drawings(package: Path, coded: Path) -> tuple[Vocabulary, dict[str, dict[str, str | Path]]]:
    """The vocabulary, and for each vendor its drawing of each emoji."""
    sets = load_sets(package)
    words = vocabulary(sets)
    drawn: dict[str, dict[str, str | Path]] = {
        vendor: dict(set_drawings(vendor, icon_set, words)) for vendor, icon_set in sets.items()
    }
    drawn["fluent-3d"] = dict(coded_drawings(coded, words))
    return words, drawn
