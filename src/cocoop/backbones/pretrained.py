"""The names of weights there are, told without importing open_clip, which takes seconds."""

import importlib.metadata
import json
from pathlib import Path

EMBEDDED = "tiny-clip"  # the pre-trained model inside the package; the default everywhere
STORED = Path(__file__).with_suffix(".json")  # written by tools/open_clip_names.py


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
