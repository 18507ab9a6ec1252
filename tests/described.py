"""Sentences about the classes of tests, for the methods that read some."""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = tempfile.TemporaryDirectory(prefix="cocoop-sentences-")


def about(names: Sequence[str]) -> dict[str, list[str]]:
    """Return one to three sentences about every name."""
    texts = ("a {} is here.", "look, a {}", "this is what one calls a {}, is it not?")
    return {
        name: [text.replace("{}", name) for text in texts[: 1 + place % 3]]
        for place, name in enumerate(names)
    }


def described(config: Any, names: Sequence[str]) -> Any:
    """Return a method's settings, with sentences about these classes where it reads sentences."""
    if not hasattr(config, "sentences"):
        return config
    path = Path(FOLDER.name) / f"{abs(hash(tuple(names)))}.json"
    path.write_text(json.dumps(about(names)))
    return dataclasses.replace(config, sentences=str(path))
