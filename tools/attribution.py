"""Who drew what: vendors.json, ATTRIBUTION.md and licence texts beside the data and the weights."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import emoji
import icons as iconify
from icons import Source

# The two holders whose MIT drawings are shipped as pixels.
MIT_HOLDERS = ("Copyright (c) Microsoft Corporation.", "Copyright (c) 2023 LobeHub")
FLUENT_3D = Source(
    prefix="fluent-3d",
    title="Fluent Emoji 3D",
    author="Microsoft Corporation, packed by LobeHub",
    url="https://github.com/microsoft/fluentui-emoji",
    licence="MIT",
    palette=True,
    category="Emoji",
    strokes=False,
)
ROLES: dict[str, str] = {
    **dict.fromkeys(emoji.PRETRAINING, "pretraining"),
    **dict.fromkeys(emoji.COLOUR, "colour"),
    **dict.fromkeys(emoji.MONOCHROME, "monochrome"),
}
LICENCE_LINKS: dict[str, str] = {
    "MIT": "https://opensource.org/license/mit",
    "ISC": "https://opensource.org/license/isc-license-txt",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
}


@dataclass(frozen=True)
class Credit:
    """One row of an attribution table."""

    source: Source
    drawings: int


def vendor_credits(package: Path, counts: Mapping[str, int]) -> list[Credit]:
    """The vendors of the benchmark, in the order of their roles."""
    known = iconify.sources(package) | {FLUENT_3D.prefix: FLUENT_3D}
    return [Credit(known[vendor], counts[vendor]) for vendor in emoji.VENDORS]


def corpus_credits(package: Path, rows: Mapping[str, list[dict]]) -> list[Credit]:
    """Every set that the pre-training corpus drew from."""
    known = iconify.sources(package)
    counts = Counter(row["vendor"] for part in rows.values() for row in part)
    return [Credit(known[vendor], counts[vendor]) for vendor in sorted(counts)]


def licence_text(spdx: str, texts: Path) -> str:
    """A licence's full text from an unpacked spdx-license-list package, with our holders for MIT."""
    entry = json.loads((texts / "licenses" / f"{spdx}.json").read_text(encoding="utf-8"))
    text = entry["licenseText"].strip() + "\n"
    if spdx == "MIT":
        text = text.replace("Copyright (c) <year> <copyright holders>", "\n".join(MIT_HOLDERS))
    return text


def table(credits_: Iterable[Credit], with_role: bool) -> str:
    """A Markdown table of who drew what under which licence."""
    head = ["set", "author", "licence", "drawings"] + (["role"] if with_role else [])
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for credit in credits_:
        source = credit.source
        linked = f"[{source.title}]({source.url})" if source.url else source.title
        licence = f"[{source.licence}]({LICENCE_LINKS[source.licence]})"
        cells = [linked, source.author, licence, str(credit.drawings)]
        lines.append("| " + " | ".join(cells + ([ROLES[source.prefix]] if with_role else [])) + " |")
    return "\n".join(lines) + "\n"


DATASET_TEXT = """# Attribution

The drawings of emoji-styles come from the vendors below. What was changed: every drawing was rasterised
(or shrunk) to 64 x 64 pixels, laid on white paper and stored as lossy WebP; nothing was redrawn. Drawings
whose role is "pretraining" are not part of this folder: they only count towards which emoji became
classes, and the embedded model was trained on them. Vendors were matched by Unicode name and codepoint.
The full licence texts are in `LICENSES/`. None of the authors endorses this package.

"""

MODEL_TEXT = """# Attribution

The weights of tiny-clip were trained on drawings of the icon and emoji sets below, read from the
`@iconify/json` package and rasterised to 56 x 56 pixels. No drawing is part of this folder. None of the
authors endorses the model.

"""


def write_dataset_notices(out: Path, package: Path, texts: Path, counts: Mapping[str, int]) -> None:
    """vendors.json, ATTRIBUTION.md and LICENSES/ of the benchmark."""
    listed = vendor_credits(package, counts)
    vendors = {
        c.source.prefix: {
            "title": c.source.title,
            "author": c.source.author,
            "url": c.source.url,
            "licence": c.source.licence,
            "role": ROLES[c.source.prefix],
            "drawings": c.drawings,
        }
        for c in listed
    }
    (out / "vendors.json").write_text(json.dumps(vendors, indent=2) + "\n", encoding="utf-8")
    (out / "ATTRIBUTION.md").write_text(DATASET_TEXT + table(listed, with_role=True), encoding="utf-8")
    (out / "LICENSES").mkdir(exist_ok=True)
    for spdx in sorted({c.source.licence for c in listed}):
        (out / "LICENSES" / f"{spdx}.txt").write_text(licence_text(spdx, texts), encoding="utf-8")


def write_model_notices(out: Path, package: Path, corpus: Path) -> None:
    """ATTRIBUTION.md of the weights."""
    rows = json.loads((corpus / "drawings.json").read_text(encoding="utf-8"))
    listed = corpus_credits(package, rows)
    (out / "ATTRIBUTION.md").write_text(MODEL_TEXT + table(listed, with_role=False), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the attribution of the pre-trained weights.")
    parser.add_argument("--package", type=Path, required=True, help="unpacked @iconify/json package")
    parser.add_argument("--corpus", type=Path, required=True, help="folder written by render_corpus.py")
    parser.add_argument("--out", type=Path, default=Path("src/cocoop/assets/tiny-clip"))
    args = parser.parse_args()
    write_model_notices(args.out, args.package, args.corpus)


if __name__ == "__main__":
    main()
