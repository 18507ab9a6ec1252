"""What open_clip has, told without importing it, which takes seconds."""

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

EMBEDDED = "tiny-clip"  # the pre-trained model inside the package; the default everywhere
EMBEDDED_VIT = "tiny-clip-vit"  # its text tower with a vision transformer
EMBEDDED_PHOTO = "tiny-photo"  # knows photographs
DRAWINGS, PHOTOGRAPHS = "drawings", "photographs"
EOT_POOLS = ("argmax", "eos")  # what reading a feature at EOT is called
STORED = Path(__file__).with_suffix(".json")  # written by tools/open_clip_names.py


@dataclass(frozen=True)
class Shipped:
    """A model inside the package.

    Attributes:
        knows: what kind of images it was trained on.
        sizes: of its images (pixels an edge), its text tower and its joint space.
        about: more, in a few words.
    """

    knows: str
    sizes: tuple[int, int, int]
    about: str


SHIPPED = {
    EMBEDDED: Shipped(DRAWINGS, (48, 128, 128), "knows drawings"),
    EMBEDDED_VIT: Shipped(DRAWINGS, (48, 128, 128), "knows drawings, with a ViT"),
    EMBEDDED_PHOTO: Shipped(PHOTOGRAPHS, (224, 256, 256), "knows photographs of everyday things"),
}


def embedded_for(photographs: bool) -> str:
    """Return the first model inside the package that knows photographs, or drawings."""
    knows = PHOTOGRAPHS if photographs else DRAWINGS
    return next(name for name, about in SHIPPED.items() if about.knows == knows)


def pretrained() -> dict[str, list[str]]:
    """Return the tags of open_clip's weights by architecture, in its order.

    They are stored for one version of open_clip; another one is asked itself.
    """
    stored = json.loads(STORED.read_text())
    if stored["open_clip_torch"] != importlib.metadata.version("open_clip_torch"):
        return ask()
    known: dict[str, list[str]] = stored["pretrained"]
    return known


def ask() -> dict[str, list[str]]:
    """Return what the open_clip that is installed knows."""
    import open_clip

    known: dict[str, list[str]] = {}
    for architecture, tag in open_clip.list_pretrained():
        known.setdefault(architecture, []).append(tag)
    return known


def read_config(architecture: str) -> dict[str, Any]:
    """Return what open_clip's own file says of an architecture."""
    spec = find_spec("open_clip")
    assert spec is not None
    folder = Path(str(spec.origin)).parent / "model_configs"
    config: dict[str, Any] = json.loads((folder / f"{architecture}.json").read_text())
    return config


def text_path(config: Mapping[str, Any]) -> str:
    """Return in a few words how prompts of an architecture are encoded, by what open_clip says of it."""
    text = config["text_cfg"]
    if "hf_model_name" in text:
        return "padded"
    whole = (
        text.get("no_causal_mask") or text.get("embed_cls") or text.get("pool_type", "eos") not in EOT_POOLS
    )
    return "padded, whole context" if whole else "token tree"
