"""Build the emoji-styles benchmark: images.zip, one split file a group, vendors.json, attribution."""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import emoji
import icons as iconify
import numpy as np
from attribution import write_dataset_notices
from PIL import Image

Row = tuple[str, int, str]
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date a ZIP can hold: the archive depends on its content alone


@dataclass(frozen=True)
class BuildSettings:
    """What decides which emoji become classes, and how their drawings are stored."""

    size: int = 64
    quality: int = 80
    least_vendors: int = 8
    least_colour: int = 4
    most_classes: int = 200
    train_each: int = 2
    val_each: int = 1
    seed: int = 0


def choose_classes(
    words: emoji.Vocabulary, drawn: Mapping[str, Mapping[str, object]], settings: BuildSettings
) -> dict[str, list[emoji.Emoji]]:
    """Group -> its classes in name order; too large a group keeps what most vendors draw."""
    groups: dict[str, list[tuple[int, str, emoji.Emoji]]] = {}
    for slug, item in words.emoji.items():
        vendors = sum(slug in drawn[vendor] for vendor in emoji.VENDORS)
        colour = sum(slug in drawn[vendor] for vendor in emoji.COLOUR)
        enough = vendors >= settings.least_vendors and colour >= settings.least_colour
        if enough and not emoji.is_variant(slug):
            groups.setdefault(item.group, []).append((-vendors, item.name, item))
    return {
        group: sorted((item for _, _, item in sorted(found, key=_rank)[: settings.most_classes]), key=_name)
        for group, found in sorted(groups.items())
    }


def _rank(entry: tuple[int, str, emoji.Emoji]) -> tuple[int, str]:
    return entry[:2]


def _name(item: emoji.Emoji) -> str:
    return item.name


def member(group: str, vendor: str, name: str) -> str:
    """The path of one drawing inside the archive."""
    return f"{group}/{vendor}/{name.replace(' ', '_')}.webp"


def assign_parts(
    vendors: Sequence[str], seed: Sequence[int], settings: BuildSettings
) -> dict[str, list[str]]:
    """Shuffle one class's colour vendors into train, val and test."""
    order = [vendors[i] for i in np.random.default_rng(list(seed)).permutation(len(vendors))]
    first, second = settings.train_each, settings.train_each + settings.val_each
    return {"train": order[:first], "val": order[first:second], "test": order[second:]}


def split_rows(
    group: str,
    classes: Sequence[emoji.Emoji],
    drawn: Mapping[str, Mapping[str, object]],
    settings: BuildSettings,
) -> dict[str, list[Row]]:
    """The split file of a group: path, label and class name of every drawing of every part."""
    rows: dict[str, list[Row]] = {"train": [], "val": [], "test": [], "mono": []}
    number = list(emoji.GROUPS.values()).index(group)
    for label, item in enumerate(classes):
        colour = [vendor for vendor in emoji.COLOUR if item.slug in drawn[vendor]]
        parts = assign_parts(colour, (settings.seed, number, label), settings)
        parts["mono"] = [vendor for vendor in emoji.MONOCHROME if item.slug in drawn[vendor]]
        for part, vendors in parts.items():
            rows[part] += [(member(group, vendor, item.name), label, item.name) for vendor in vendors]
    return rows


def draw(vendor: str, source: str | Path, sets: Mapping[str, dict], size: int) -> np.ndarray:
    """RGB pixels of one vendor's drawing on white paper."""
    if isinstance(source, Path):
        with Image.open(source) as image:
            return iconify.on_white(iconify.fit_square(image.convert("RGBA"), size))
    return iconify.on_white(iconify.rasterise(iconify.svg_document(sets[vendor], source), size))


def encode(pixels: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """An uncompressed ZIP (WebP does not shrink further) whose bytes do not depend on the clock."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, files[name])


def build(package: Path, coded: Path, texts: Path, out: Path, settings: BuildSettings) -> None:
    """Write the whole benchmark folder."""
    words, drawn = emoji.all_drawings(package, coded)
    sets = emoji.load_sets(package)
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    counts: dict[str, int] = dict.fromkeys(emoji.VENDORS, 0)
    for group, classes in choose_classes(words, drawn, settings).items():
        rows = split_rows(group, classes, drawn, settings)
        text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        (out / f"{group}.json").write_text(text + "\n", encoding="utf-8")
        for item in classes:
            for vendor in emoji.COLOUR + emoji.MONOCHROME:
                source = drawn[vendor].get(item.slug)
                if source is not None:
                    pixels = draw(vendor, source, sets, settings.size)
                    files[member(group, vendor, item.name)] = encode(pixels, settings.quality)
            for vendor in emoji.VENDORS:
                counts[vendor] += item.slug in drawn[vendor]
        print(f"{group}: {len(classes)} classes, " + ", ".join(f"{p} {len(r)}" for p, r in rows.items()))
    write_archive(out / "images.zip", files)
    write_dataset_notices(out, package, texts, counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True, help="unpacked @iconify/json package")
    parser.add_argument("--coded", type=Path, required=True, help="assets folder of @lobehub/fluent-emoji-3d")
    parser.add_argument("--texts", type=Path, required=True, help="unpacked spdx-license-list package")
    parser.add_argument("--out", type=Path, default=Path("src/cocoop/assets/emoji-styles"))
    parser.add_argument("--seed", type=int, default=BuildSettings.seed)
    args = parser.parse_args()
    build(args.package, args.coded, args.texts, args.out, BuildSettings(seed=args.seed))


if __name__ == "__main__":
    main()
