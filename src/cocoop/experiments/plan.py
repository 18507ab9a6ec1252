"""What is to be run, settled before anything runs: the cells of several protocols, checked."""

from collections import Counter
from collections.abc import Sequence

from cocoop.backbones.clip import Backbone
from cocoop.data import Dataset
from cocoop.errors import UsageError
from cocoop.experiments.cell import Cell
from cocoop.experiments.protocols import PROTOCOLS, Facts, Settings, unique
from cocoop.methods import METHODS, build
from cocoop.methods._settings import from_dict


def plan(protocols: Sequence[str], settings: Settings, clip: Backbone) -> list[Cell]:
    """Return the cells of the protocols.

    Raises:
        UsageError: a protocol is unknown or cannot use the settings; or it tests prompts on classes that they
            were not trained on, and a method's prompts fit no others.
    """
    cells = unique(cell for name in protocols for cell in PROTOCOLS.get(name).cells(settings))
    for cell in cells:
        if cell.transfers and not _transferable(cell, clip):
            raise UsageError(
                f"{cell.protocol} tests prompts on classes that they were not trained on, and those of "
                f"{cell.training.label} are vectors of every training class's own, which fit no other class; "
                "few-shot tests such methods"
            )
    return cells


def facts(dataset: Dataset, clip: Backbone) -> Facts:
    """Return what protocols ask about a dataset."""
    images = Counter(item.label for item in dataset.splits.get("train", ())).values()
    longest = max(len(clip.tokenize(name.replace("_", " "))) for name in dataset.class_names)
    return Facts(
        fewest=min(images, default=0),
        most=max(images, default=0),
        domains=tuple(name for name in dataset.splits if name not in ("train", "val", "test")),
        room=clip.context_length - longest - 1,  # 1 for the full stop
    )


def _transferable(cell: Cell, clip: Backbone) -> bool:
    method = cell.training.method
    config = from_dict(METHODS.get(method).config_type, cell.training.config)
    return build(method, config, clip, template="{}", n_classes=1, seed=0).transferable
