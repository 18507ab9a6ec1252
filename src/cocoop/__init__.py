"""Prompt learning for CLIP: zero-shot CLIP, CoOp and CoCoOp on a frozen backbone."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocoop.backbones.clip import Backbone, load_backbone
    from cocoop.data import Dataset, Item, open_dataset
    from cocoop.errors import CocoopError, UsageError
    from cocoop.estimator import CoCoOp, CoOp, PromptClassifier, ZeroShot, load
    from cocoop.experiments.run import run
    from cocoop.training.classifier import Classifier
    from cocoop.training.prompt_file import load_prompt

__all__ = [
    "Backbone",
    "Classifier",
    "CoCoOp",
    "CoOp",
    "CocoopError",
    "Dataset",
    "Item",
    "PromptClassifier",
    "UsageError",
    "ZeroShot",
    "load",
    "load_backbone",
    "load_prompt",
    "open_dataset",
    "run",
]

_HOME = {
    "Backbone": "backbones.clip",
    "load_backbone": "backbones.clip",
    "Dataset": "data",
    "Item": "data",
    "open_dataset": "data",
    "CocoopError": "errors",
    "UsageError": "errors",
    "CoCoOp": "estimator",
    "CoOp": "estimator",
    "PromptClassifier": "estimator",
    "ZeroShot": "estimator",
    "load": "estimator",
    "run": "experiments.run",
    "Classifier": "training.classifier",
    "load_prompt": "training.prompt_file",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `cocoop --help` does not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'cocoop' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cocoop.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
