"""Icon file names turned into words: what the drawing shows, and the style it is drawn in."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Word of an icon's file name -> how a caption says it ("" when it says nothing about the picture).
STYLE_WORDS: dict[str, str] = {
    "outline": "outline", "outlined": "outline", "line": "outline", "linear": "outline",
    "stroke": "outline", "border": "outline", "regular": "outline", "thin": "thin", "light": "thin",
    "bold": "bold", "heavy": "bold", "thick": "bold", "fill": "solid", "filled": "solid",
    "solid": "solid", "duotone": "two tone", "twotone": "two tone", "duo": "two tone",
    "rounded": "rounded", "round": "rounded", "sharp": "sharp", "broken": "broken",
    "color": "color", "colour": "color", "colored": "color", "flat": "flat", "twotoned": "two tone",
    "baseline": "solid", "remix": "", "alt": "", "alternate": "", "free": "", "o": "", "icon": "",
    "sm": "", "md": "", "lg": "", "xl": "", "xs": "", "small": "", "variant": "", "loop": "",
    "poly": "", "mono": "", "24px": "", "16px": "", "20px": "", "32px": "",
}  # fmt: skip

# After these, "light", "line" and the like name the thing itself ("traffic light").
NAMING_BEFORE: dict[str, frozenset[str]] = {
    "light": frozenset(
        {"traffic", "flash", "day", "spot", "head", "night", "street", "stop", "warning", "police", "sun"}
        | {"ceiling"}
    ),
    "line": frozenset({"time", "under", "straight", "dotted", "dashed", "bottom", "tan", "washing"}),
    "round": frozenset({"merry", "all"}),
    "color": frozenset({"background", "text", "font", "fill", "border"}),
    "border": frozenset({"country"}),
}

# Icons of brands hide inside general sets under these first words.
BRAND_WORDS = frozenset({"brand", "brands", "logo", "logos", "flag", "flags", "emoji"})


@dataclass(frozen=True)
class CleanName:
    """The words of a drawing, and the style words dropped from them."""

    words: str
    styles: tuple[str, ...]


def clean_name(raw: str, max_words: int = 6) -> CleanName | None:
    """Words and styles of an icon's file name; None when nothing nameable is left."""
    tokens = [t for t in re.split(r"[^a-z0-9]+", raw.lower()) if t]
    if not tokens or tokens[0] in BRAND_WORDS or tokens[-1] in BRAND_WORDS:
        return None
    styles: list[str] = []
    tokens = _strip_end(tokens, styles)
    tokens = _strip_start(tokens, styles)
    if not 1 <= len(tokens) <= max_words or not any(len(t) > 1 and t.isalpha() for t in tokens):
        return None
    return CleanName(" ".join(tokens), tuple(dict.fromkeys(s for s in styles if s)))


def _strip_end(tokens: list[str], styles: list[str]) -> list[str]:
    """Drop trailing sizes, numbers and style words, keeping at least one word."""
    while len(tokens) > 1:
        last, before = tokens[-1], tokens[-2]
        if last.isdigit():
            tokens = tokens[:-1]
        elif last in STYLE_WORDS and before not in NAMING_BEFORE.get(last, frozenset()):
            styles.insert(0, STYLE_WORDS[last])
            tokens = tokens[:-1]
        else:
            break
    return tokens


def _strip_start(tokens: list[str], styles: list[str]) -> list[str]:
    """Drop leading style words that only file an icon away ("baseline-", "outline-")."""
    while len(tokens) > 1 and tokens[0] in {"baseline", "outline", "twotone", "sharp", "filled", "outlined"}:
        styles.append(STYLE_WORDS[tokens[0]])
        tokens = tokens[1:]
    return tokens


def squash(name: str) -> str:
    """A name reduced to its letters and digits, to compare spellings of different vendors."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("&", "and"))
