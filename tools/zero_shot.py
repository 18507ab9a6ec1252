"""Zero-shot accuracy of a CLIP on emoji-styles, group by group."""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from cocoop.backbones.names import create_model

ASSETS = Path(__file__).resolve().parent.parent / "src" / "cocoop" / "assets"
TEMPLATES = (
    "a photo of a {}.",
    "a color emoji of a {}.",
    "an emoji of a {}.",
    "{}",
    "a drawing of a {}.",
    "a flat emoji of a {}.",
    "a monochrome emoji of a {}.",
    "a black icon of a {}.",
)


@dataclass(frozen=True)
class Group:
    """One group's drawings to judge: pixels of each part, labels, and class names."""

    name: str
    classes: list[str]
    images: dict[str, Tensor]
    labels: dict[str, Tensor]


def load(name: str) -> tuple[Any, Any, Any]:
    """Model, preprocessing and tokenizer: an embedded model by its name, or any of open_clip's."""
    if not (folder := ASSETS / name).is_dir():
        model, _, preprocess = open_clip.create_model_and_transforms(name)
        return model.eval(), preprocess, open_clip.get_tokenizer(name)
    model = create_model(name)
    preprocess = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{folder}")


def load_groups(folder: Path, preprocess: Any, parts: Sequence[str] = ("test", "mono")) -> list[Group]:
    """Every group with its preprocessed drawings."""
    groups: list[Group] = []
    with zipfile.ZipFile(folder / "images.zip") as archive:
        for path in sorted(folder.glob("*.json")):
            rows = json.loads(path.read_text(encoding="utf-8"))
            if "train" not in rows:
                continue
            names = {label: name for _, label, name in rows["train"]}
            images, labels = {}, {}
            for part in parts:
                pictures = [Image.open(io.BytesIO(archive.read(p))).convert("RGB") for p, _, _ in rows[part]]
                images[part] = torch.stack([preprocess(picture) for picture in pictures])
                labels[part] = torch.tensor([label for _, label, _ in rows[part]])
            groups.append(Group(path.stem, [names[i] for i in range(len(names))], images, labels))
    return groups


@torch.no_grad()
def accuracy(
    model: Any, tokenizer: Any, groups: Sequence[Group], templates: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """part -> template -> group -> per cent right, with the mean over the groups under "mean"."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for group in groups:
        texts = [_text_features(model, tokenizer, template, group.classes) for template in templates]
        for part, images in group.images.items():
            features = torch.cat([model.encode_image(chunk, normalize=True) for chunk in images.split(256)])
            for template, text in zip(templates, texts, strict=True):
                right = (features @ text.T).argmax(1) == group.labels[part]
                entry = found.setdefault(part, {}).setdefault(template, {})
                entry[group.name] = 100 * right.float().mean().item()
    for by_template in found.values():
        for entry in by_template.values():
            entry["mean"] = float(np.mean(list(entry.values())))
    return found


def _text_features(model: Any, tokenizer: Any, template: str, classes: Sequence[str]) -> Tensor:
    return model.encode_text(tokenizer([template.format(name) for name in classes]), normalize=True)


def markdown(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """The accuracies as one table a part."""
    lines: list[str] = []
    for part, by_template in found.items():
        groups = list(next(iter(by_template.values())))
        lines += ["", f"Drawings: {part}", "", "| template | " + " | ".join(groups) + " |"]
        lines.append("|---" * (len(groups) + 1) + "|")
        for template, entry in by_template.items():
            lines.append(f"| `{template}` | " + " | ".join(f"{entry[g]:.1f}" for g in groups) + " |")
    return "\n".join(lines[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-clip", help="an embedded model, or open_clip's name of one")
    parser.add_argument("--data", type=Path, default=ASSETS / "emoji-styles")
    args = parser.parse_args()
    model, preprocess, tokenizer = load(args.model)
    print(markdown(accuracy(model, tokenizer, load_groups(args.data, preprocess), TEMPLATES)))


if __name__ == "__main__":
    main()
