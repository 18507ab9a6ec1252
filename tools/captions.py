"""Captions that say what a drawing shows and how it is drawn, so that a prompt's context carries meaning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# How a rendering of an emoji looks; icons have their own style words.
VENDOR_STYLES: dict[str, tuple[str, ...]] = {
    "noto": ("flat", "shaded"),
    "noto-v1": ("blob", "glossy"),
    "fxemoji": ("flat", "simple"),
    "streamline-emojis": ("outlined", "cartoon"),
}

# Chances of each kind of caption. Few emoji are called photos: as in web text, the plain template is
# not the one that fits a drawing best.
EMOJI_MIX = {"photo": 0.05, "bare": 0.12, "kind": 0.30, "colour": 0.28, "style": 0.12, "generic": 0.13}
ICON_MIX = {"photo": 0.20, "bare": 0.15, "both": 0.25, "style": 0.15, "colour": 0.15, "generic": 0.10}
GENERIC = ("a drawing of a {}.", "a picture of a {}.", "a symbol of a {}.", "clip art of a {}.")


@dataclass(frozen=True)
class Look:
    """What a caption may say of one rendering."""

    name: str
    emoji: bool
    colour: str
    styles: tuple[str, ...]
    photo: bool = True  # whether "a photo of a" may be said of it


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    return f"{'an' if phrase[:1] in 'aeiou' else 'a'} {phrase}"


def mono_styles(mode: str) -> tuple[str, ...]:
    """Style words of an emoji redrawn in one ink or in gray."""
    return ("gray", "grayscale") if mode == "gray" else ("monochrome", "black and white")


def compose(look: Look, rng: np.random.Generator) -> str:
    """One caption of a rendering, drawn from the mix of its kind."""
    mix = EMOJI_MIX if look.emoji else ICON_MIX
    kind = str(rng.choice(list(mix), p=list(mix.values())))
    if kind == "photo" and not look.photo:
        kind = "kind" if look.emoji else "both"
    return phrase(look, kind, rng)


def phrase(look: Look, kind: str, rng: np.random.Generator) -> str:
    """The caption of one kind."""
    style = look.styles[int(rng.integers(len(look.styles)))] if look.styles else ""
    noun = "icon"
    if look.emoji:
        mono = bool(look.styles) and look.styles[0] in ("gray", "monochrome")
        noun = "emoji" if mono else "color emoji"
        if kind == "kind":
            kind, style = "style", style if mono else ""
        elif kind == "style" and not mono:
            noun = "emoji"
    if kind == "photo":
        return f"a photo of a {look.name}."
    if kind == "bare":
        return look.name
    if kind == "generic":
        return GENERIC[int(rng.integers(len(GENERIC)))].format(look.name)
    words = {"colour": [look.colour], "style": [style], "both": [look.colour, style]}[kind]
    described = " ".join([w for w in dict.fromkeys(words) if w] + [noun])
    return f"{article(described)} of a {look.name}."
