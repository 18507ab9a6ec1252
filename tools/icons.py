"""Iconify icon sets: reading them, choosing the ones whose licence we may use, and drawing them."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

ALLOWED_LICENCES = frozenset({"Apache-2.0", "MIT", "ISC", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0"})

# Logos and flags have names no drawing explains to a small model; sets of file-type logos are the same.
SKIPPED_CATEGORIES = frozenset({"Logos", "Emoji"})
SKIPPED_SETS = frozenset(
    {
        "circle-flags", "flag", "flagpack", "cif", "fa6-brands", "fa-brands", "fluent-emoji",
        "vscode-icons", "material-icon-theme", "file-icons", "devicon", "devicon-plain", "catppuccin",
        "skill-icons", "gcp", "k8s", "unjs", "svg-spinners", "bitcoin-icons",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Who drew a set, and under which licence."""

    prefix: str
    title: str
    author: str
    url: str
    licence: str
    palette: bool
    category: str
    strokes: bool


@dataclass(frozen=True)
class Icon:
    """One drawing of a set: its raw name and its SVG text."""

    name: str
    svg: str


def sources(package: Path) -> dict[str, Source]:
    """Every set of an unpacked iconify package, by prefix."""
    listed = json.loads((package / "collections.json").read_text(encoding="utf-8"))
    return {prefix: _source(prefix, info) for prefix, info in listed.items()}


def _source(prefix: str, info: dict[str, Any]) -> Source:
    return Source(
        prefix=prefix,
        title=info["name"],
        author=info["author"]["name"],
        url=info["author"].get("url") or info["license"].get("url", ""),
        licence=info["license"].get("spdx", ""),
        palette=bool(info.get("palette")),
        category=info.get("category") or "",
        strokes="Uses Stroke" in (info.get("tags") or ()),
    )


def corpus_sources(package: Path) -> list[Source]:
    """The icon sets that may be trained on: allowed licence, no logos, no flags, no emoji."""
    return [
        source
        for source in sources(package).values()
        if source.licence in ALLOWED_LICENCES
        and source.category not in SKIPPED_CATEGORIES
        and source.prefix not in SKIPPED_SETS
    ]


def load_set(package: Path, prefix: str) -> dict[str, Any]:
    """The raw iconify JSON of one set."""
    return json.loads((package / "json" / f"{prefix}.json").read_text(encoding="utf-8"))


def svg_document(icon_set: dict[str, Any], name: str) -> str:
    """A whole SVG file for one icon; an alias takes its parent's body, mirrored when it says so."""
    icon, flip = icon_set["icons"].get(name), False
    if icon is None:
        alias = icon_set["aliases"][name]
        icon, flip = icon_set["icons"][alias["parent"]], bool(alias.get("hFlip"))
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", icon_set.get("width", 16))
    height = icon.get("height", icon_set.get("height", 16))
    body = icon["body"]
    if flip:
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


def icons(icon_set: dict[str, Any]) -> list[Icon]:
    """Every shown icon of a set, in name order."""
    shown = (name for name, icon in icon_set["icons"].items() if not icon.get("hidden"))
    return [Icon(name, svg_document(icon_set, name)) for name in sorted(shown)]


def rasterise(svg: str, size: int) -> np.ndarray:
    """RGBA uint8 pixels, size x size, the drawing centred when it is not square."""
    png = resvg_py.svg_to_bytes(svg_string=_sized(svg, size), skip_system_fonts=True)
    return fit_square(Image.open(io.BytesIO(bytes(png))).convert("RGBA"), size)


def _sized(svg: str, size: int) -> str:
    """The longer side drawn at `size` pixels, so nothing is resampled afterwards."""
    box = _VIEW_BOX.search(svg)
    assert box is not None, "svg_document always writes a viewBox"
    width, height = (float(v) for v in box[1].split()[2:])
    scale = size / max(width, height)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    return svg.replace("<svg ", f'<svg width="{wide}" height="{high}" ', 1)


_VIEW_BOX = re.compile(r'viewBox="([^"]+)"')


def fit_square(image: Image.Image, size: int) -> np.ndarray:
    """Centre an RGBA image on a transparent square, shrinking it when it is larger."""
    if max(image.size) != size:
        scale = size / max(image.size)
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
            Image.Resampling.LANCZOS,
        )
    square = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return np.asarray(square, dtype=np.uint8)


def on_white(rgba: np.ndarray) -> np.ndarray:
    """RGB pixels of an RGBA drawing laid on white paper."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    rgb = rgba[..., :3].astype(np.float32) * alpha + 255.0 * (1.0 - alpha)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
