"""The cached corpus: sampling batches of random renderings with matching captions."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import augment
import numpy as np
import torch
from augment import AugmentSettings
from captions import VENDOR_STYLES, Look, compose, mono_styles
from colours import TINTS, dominant_word
from emoji import is_variant
from torch import Tensor


@dataclass(frozen=True)
class MixSettings:
    """What share of a batch each kind of drawing has."""

    emoji: float = 0.35
    known: float = 0.20  # icons whose name is also an emoji's
    black_ink: float = 0.4
    emoji_gray: float = 0.06
    emoji_ink: float = 0.18
    emoji_photos: bool = True  # whether things with an emoji are ever called photos


@dataclass(frozen=True)
class Batch:
    """Pictures in 0..1, their captions, and a number for each distinct name."""

    images: Tensor
    captions: list[str]
    names: Tensor


class Corpus:
    """Rows 0..len(masks)-1 are one-colour icons; the rest are colour drawings."""

    def __init__(self, folder: Path, mix: MixSettings, look: AugmentSettings) -> None:
        rows = json.loads((folder / "drawings.json").read_text(encoding="utf-8"))
        self.masks = np.load(folder / "masks.npy")
        self.colours = np.load(folder / "colours.npy")
        listed = rows["masks"] + rows["colours"]
        drawn = {r["name"] for r in listed if r["kind"] == "emoji"}
        self.rows = [
            Look(
                r["name"],
                r["kind"] == "emoji",
                "",
                tuple(r["styles"]),
                mix.emoji_photos or r["name"] not in drawn,
            )
            for r in listed
        ]
        self.vendors = [r["vendor"] for r in listed]
        self.words = [dominant_word(rgba) for rgba in self.colours]
        numbers = {name: i for i, name in enumerate(sorted({r.name for r in self.rows}))}
        self.numbers = np.array([numbers[r.name] for r in self.rows])
        self.mix, self.look = mix, look
        self._chances = self._weights()

    def _weights(self) -> np.ndarray:
        """Chance of each row: fixed shares for the three kinds, rarer names a little more often."""
        emoji = np.array([r.emoji for r in self.rows])
        names = {r.name for r in self.rows if r.emoji}
        known = np.array([not r.emoji and r.name in names for r in self.rows])
        weights = np.zeros(len(self.rows))
        for kind, share in (
            (emoji, self.mix.emoji),
            (known, self.mix.known),
            (~emoji & ~known, 1 - self.mix.emoji - self.mix.known),
        ):
            rows = np.flatnonzero(kind)
            counts = Counter(self.numbers[rows].tolist())
            part = np.array([counts[n] ** -0.5 for n in self.numbers[rows].tolist()])
            # Gendered variants differ in a hairstyle; a few of them are enough.
            part *= [0.25 if is_variant(self.rows[i].name.replace(" ", "-")) else 1.0 for i in rows]
            weights[rows] = share * part / part.sum()
        return np.cumsum(weights / weights.sum())

    def sample(self, size: int, rng: np.random.Generator, torch_rng: torch.Generator) -> Batch:
        """A random batch: icons first, then colour drawings."""
        picked = np.sort(np.searchsorted(self._chances, rng.random(size)).clip(max=len(self.rows) - 1))
        split = int(np.searchsorted(picked, len(self.masks)))
        icons, drawings = picked[:split], picked[split:]
        paper = augment.backgrounds(size, self.look, torch_rng)
        tint, words = self._tints(size, rng)
        masks = torch.from_numpy(self.masks[icons]).unsqueeze(1).float().div_(255)
        masks = augment.warp(masks, self.look, torch_rng)
        flat = augment.compose_ink(masks, tint[:split], paper[:split])
        looks = [self._with(self.rows[i], words[k], self.rows[i].styles) for k, i in enumerate(icons)]
        coloured, more = self._drawings(drawings, tint[split:], words[split:], paper[split:], rng, torch_rng)
        captions = [compose(look, rng) for look in looks + more]
        return Batch(torch.cat([flat, coloured]), captions, torch.from_numpy(self.numbers[picked]))

    def _drawings(
        self,
        rows: np.ndarray,
        tint: Tensor,
        words: list[str],
        paper: Tensor,
        rng: np.random.Generator,
        torch_rng: torch.Generator,
    ) -> tuple[Tensor, list[Look]]:
        """Colour drawings, some of the emoji redrawn in gray or in one ink."""
        cached = torch.from_numpy(self.colours[rows - len(self.masks)]).permute(0, 3, 1, 2).float().div_(255)
        cached[:, :3] *= cached[:, 3:].clone()
        warped = augment.warp(cached, self.look, torch_rng)
        emoji = np.array([self.rows[i].emoji for i in rows], dtype=bool)
        draw = rng.random(len(rows))
        gray = emoji & (draw < self.mix.emoji_gray)
        ink = emoji & (draw > 1 - self.mix.emoji_ink)
        luma = (warped[:, :3] * augment.LUMA).sum(1, keepdim=True).expand(-1, 3, -1, -1)
        in_gray = torch.from_numpy(gray).view(-1, 1, 1, 1)
        warped = torch.cat([torch.where(in_gray, luma, warped[:, :3]), warped[:, 3:]], 1)
        images = augment.compose_colour(augment.recolour(warped, self.look, torch_rng), paper)
        inked = torch.from_numpy(np.flatnonzero(ink))
        modes = torch.from_numpy(rng.integers(0, 3, len(inked)))
        cover = augment.to_ink(warped[inked], modes, torch_rng)
        images[inked] = augment.compose_ink(cover, tint[inked], paper[inked])
        return images, [self._look(i, k, gray, ink, words) for k, i in enumerate(rows)]

    def _look(self, row: int, place: int, gray: np.ndarray, ink: np.ndarray, words: list[str]) -> Look:
        plain = self.rows[row]
        if ink[place]:
            return self._with(plain, words[place], mono_styles("ink"))
        if gray[place]:
            return self._with(plain, "gray", mono_styles("gray"))
        styles = VENDOR_STYLES[self.vendors[row]] if plain.emoji else plain.styles
        return self._with(plain, self.words[row - len(self.masks)], styles)

    @staticmethod
    def _with(look: Look, colour: str, styles: tuple[str, ...]) -> Look:
        return Look(look.name, look.emoji, colour, styles, look.photo)

    def _tints(self, size: int, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """An ink for each row, black the most common, with its word."""
        black = rng.random(size) < self.mix.black_ink
        picked = np.where(black, 0, rng.integers(0, len(TINTS), size))
        base = np.array([rgb for _, rgb in TINTS])[picked]
        jitter = rng.uniform(-0.08, 0.08, base.shape)
        return torch.from_numpy((base + jitter).clip(0, 1)).float(), [TINTS[i][0] for i in picked]
