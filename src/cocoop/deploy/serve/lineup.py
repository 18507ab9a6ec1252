"""Which models stand side by side, and what they are called."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cocoop.estimator import PromptClassifier, ZeroShot
from cocoop.methods import baseline

ZERO_SHOT = "zero-shot"


def name_models(models: Sequence[tuple[Path, PromptClassifier]]) -> dict[str, PromptClassifier]:
    """Give each model the shortest name that tells it apart: its method, its folder's name, its path."""
    for name in (lambda path, model: model.method, lambda path, model: path.resolve().name):
        labels = [name(*pair) for pair in models]
        if len(set(labels)) == len(models):
            return dict(zip(labels, (model for _, model in models), strict=True))
    return {str(path): model for path, model in models}


def with_zero_shot(models: Mapping[str, PromptClassifier]) -> dict[str, PromptClassifier]:
    """Put zero-shot CLIP first, once a backbone, where no model is that already."""
    first: dict[str, PromptClassifier] = {}  # of each backbone
    for model in models.values():
        first.setdefault(model.load_backbone().name, model)
    taken = {model.load_backbone().name for model in models.values() if model.method == baseline()}
    zero = {
        ZERO_SHOT if len(first) == 1 else f"{ZERO_SHOT} ({name})": ZeroShot(
            model.load_backbone(), template=model.info_.prompt.template
        )
        for name, model in first.items()
        if name not in taken
    }
    return zero | dict(models)
