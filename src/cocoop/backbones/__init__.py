"""Frozen image-text models: loading one, and encoding images with it."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocoop.backbones.clip import Backbone, load_backbone
    from cocoop.backbones.features import ImageEncoder

__all__ = ["Backbone", "ImageEncoder", "load_backbone"]

_HOME = {"Backbone": "clip", "ImageEncoder": "features", "load_backbone": "clip"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: open_clip takes seconds, devices need none of it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
