"""Draw the pre-training corpus once: icon masks and colour drawings as uint8 arrays, names beside them."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import emoji
import icons as iconify
import numpy as np
from names import clean_name
from rich.progress import Progress

SIZE = 56  # a little over the model's 48 pixels, so that a random crop loses nothing


@dataclass(frozen=True)
class Drawing:
    """What one row of the cache shows."""

    name: str
    styles: tuple[str, ...]
    vendor: str
    kind: str  # "mask": one-colour icon, "icon": colour icon, "emoji": colour emoji


SET_STYLES: tuple[tuple[str, str], ...] = (
    ("outline", "outline"), ("twotone", "two tone"), ("solid", "solid"), ("pixel", "pixel"),
    ("freehand", "hand drawn"), ("pencil", "hand drawn"), ("light", "thin"), ("uit", "thin"),
)  # fmt: skip


def set_style(source: iconify.Source) -> str:
    """The style of a whole set, for icons whose names say none."""
    for part, style in SET_STYLES:
        if part in source.prefix:
            return style
    if source.palette:
        return "color"
    return "outline" if source.strokes else "solid"


def pick_icons(icon_set: dict, source: iconify.Source, most: int, seed: int) -> list[tuple[Drawing, str]]:
    """At most `most` icons of a set: every name once before any name twice, in a seeded order."""
    drawn = iconify.icons(icon_set)
    order = np.random.default_rng(seed).permutation(len(drawn))
    rounds: dict[str, int] = {}
    picked: list[tuple[int, int, Drawing, str]] = []
    for place, index in enumerate(order):
        cleaned = clean_name(drawn[index].name)
        if cleaned is None:
            continue
        turn = rounds[cleaned.words] = rounds.get(cleaned.words, -1) + 1
        styles = cleaned.styles or (set_style(source),)
        kind = "icon" if source.palette else "mask"
        picked.append((turn, place, Drawing(cleaned.words, styles, source.prefix, kind), drawn[index].svg))
    picked.sort(key=lambda item: item[:2])
    return [(drawing, svg) for _, _, drawing, svg in picked[:most]]


# Two of the five tones are enough to learn that skin colour does not name anything.
_KEPT_TONES = ("medium-light-skin-tone", "dark-skin-tone")
_TONE = re.compile(r"-((medium-)?(light|dark)|medium)-skin-tone.*$")


def pick_emoji(vendor: str, icon_set: dict, words: emoji.Vocabulary) -> list[tuple[Drawing, str]]:
    """A pre-training vendor's emoji under their Unicode names; skin tones share the plain name."""
    codes = {name: emoji.code_key(code) for code, name in icon_set.get("chars", {}).items()}
    picked: list[tuple[Drawing, str]] = []
    for icon in iconify.icons(icon_set):
        if "skin-tone" in icon.name and not icon.name.endswith(_KEPT_TONES):
            continue
        plain = _TONE.sub("", icon.name)
        plain = emoji.FXEMOJI_NAMES.get(plain, plain) if vendor == "fxemoji" else plain
        # The code of a toned drawing would find the toned name again.
        code = codes.get(icon.name) if plain == icon.name else None
        found = words.find(plain, code) or words.find(re.sub(r"-\d+$", "", plain))
        if found is not None:
            picked.append((Drawing(found.name, (), vendor, "emoji"), icon.svg))
    return picked


def choose(package: Path, most: int, seed: int) -> Iterator[tuple[Drawing, str]]:
    """The whole corpus, in a fixed order."""
    sets = emoji.load_sets(package)
    words = emoji.vocabulary(sets)
    for vendor in emoji.PRETRAINING:
        yield from pick_emoji(vendor, sets[vendor], words)
    for source in iconify.corpus_sources(package):
        yield from pick_icons(iconify.load_set(package, source.prefix), source, most, seed)


def _draw(item: tuple[Drawing, str]) -> tuple[Drawing, np.ndarray] | None:
    drawing, svg = item
    try:
        rgba = iconify.rasterise(svg, SIZE)
    except (ValueError, TypeError):  # a few icons are broken SVG; the corpus does without them
        return None
    if (rgba[..., 3] > 60).mean() < 0.01:
        return None
    return drawing, rgba[..., 3] if drawing.kind == "mask" else rgba


def render(package: Path, out: Path, most: int, seed: int, workers: int) -> None:
    """Write masks.npy, colours.npy and drawings.json (one entry a row, masks first)."""
    chosen = list(choose(package, most, seed))
    masks, colours = [], []
    mask_rows: list[Drawing] = []
    colour_rows: list[Drawing] = []
    with multiprocessing.Pool(workers) as pool, Progress() as progress:
        for drawn in progress.track(pool.imap(_draw, chosen, chunksize=256), total=len(chosen)):
            if drawn is None:
                continue
            is_mask = drawn[0].kind == "mask"
            (masks if is_mask else colours).append(drawn[1])
            (mask_rows if is_mask else colour_rows).append(drawn[0])
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "masks.npy", np.stack(masks))
    np.save(out / "colours.npy", np.stack(colours))
    rows = {"masks": [asdict(d) for d in mask_rows], "colours": [asdict(d) for d in colour_rows]}
    (out / "drawings.json").write_text(json.dumps(rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True, help="unpacked @iconify/json package")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cache")
    parser.add_argument("--most", type=int, default=1800, help="icons taken from one set at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    render(args.package, args.out, args.most, args.seed, args.workers)


if __name__ == "__main__":
    main()
