"""Colour words: of a tint, and of a drawing's pixels."""

from __future__ import annotations

import numpy as np

# Inks an icon may be drawn in, with the word a caption uses.
TINTS: tuple[tuple[str, tuple[float, float, float]], ...] = (
    ("black", (0.08, 0.08, 0.08)), ("gray", (0.5, 0.5, 0.5)), ("red", (0.85, 0.12, 0.15)),
    ("orange", (0.95, 0.52, 0.1)), ("yellow", (0.95, 0.8, 0.1)), ("green", (0.15, 0.62, 0.25)),
    ("blue", (0.12, 0.4, 0.85)), ("purple", (0.5, 0.2, 0.7)), ("pink", (0.95, 0.45, 0.65)),
    ("brown", (0.5, 0.3, 0.15)),
)  # fmt: skip
WORDS = (*(word for word, _ in TINTS), "white")
# Where each colour of the wheel ends, in degrees; past the last it is red again.
HUE_BOUNDS: dict[str, float] = {
    "red": 14, "orange": 40, "yellow": 68, "green": 165, "blue": 255, "purple": 295, "pink": 345,
}  # fmt: skip
_NEUTRAL = np.array([word in ("black", "gray", "white") for word in WORDS])


def pixel_words(rgb: np.ndarray) -> np.ndarray:
    """Index into WORDS of every pixel of an (..., 3) array in 0..1."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    high, low = rgb.max(-1), rgb.min(-1)
    spread = np.maximum(high - low, 1e-6)
    hue = np.where(
        high == red,
        ((green - blue) / spread) % 6,
        np.where(high == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    degrees = hue * 60
    saturation = (high - low) / np.maximum(high, 1e-6)
    word = np.select(
        [degrees < bound for bound in HUE_BOUNDS.values()],
        [WORDS.index(name) for name in HUE_BOUNDS],
        WORDS.index("red"),
    )
    warm = (degrees < 48) & (high < 0.68)
    word = np.where(warm & (degrees > 8), WORDS.index("brown"), word)
    word = np.where(((degrees >= 345) | (degrees < 14)) & (low > 0.45), WORDS.index("pink"), word)
    shades = [WORDS.index("white"), WORDS.index("black")]
    gray = np.select([high > 0.82, high < 0.3], shades, WORDS.index("gray"))
    return np.where((saturation < 0.18) | (high < 0.18), gray, word)


def dominant_word(rgba: np.ndarray) -> str:
    """The colour word covering most of a drawing; a neutral one only when little else is there."""
    inked = rgba[..., 3] > 128
    if not inked.any():
        return "white"
    counts = np.bincount(pixel_words(rgba[inked][:, :3] / 255.0), minlength=len(WORDS)).astype(float)
    chromatic = np.where(_NEUTRAL, 0.0, counts)
    if chromatic.sum() >= 0.3 * counts.sum():
        counts = chromatic
    return WORDS[int(counts.argmax())]
