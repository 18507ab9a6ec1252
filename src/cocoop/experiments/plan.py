"""Before anything runs: the cells of several protocols, and whether all that they need is there."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from cocoop.backbones.clip import Backbone
from cocoop.data import Dataset, open_dataset
from cocoop.data.splits import draw, subset_labels
from cocoop.data.verify import require_images
from cocoop.errors import UsageError
from cocoop.experiments.cell import Cell
from cocoop.experiments.protocols import PROTOCOLS, DatasetSummary, Settings, unique
from cocoop.methods import METHODS, Method, build, facts_of
from cocoop.methods._hooks import WithSentences
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import from_dict
from cocoop.training.checks import check_sampling
from cocoop.training.modes import TestingMode
from cocoop.training.screening import check_mode


def plan_cells(
    protocols: Sequence[str],
    settings: Settings,
    clip: Backbone,
    root: str | Path | None = None,
    mode: TestingMode = "exact",
) -> list[Cell]:
    """Return the cells of the protocols.

    Args:
        protocols: registered names.
        settings: what they are to cover.
        clip: the backbone.
        root: of the datasets.
        mode: in which the methods are tested whose contexts depend on the image.

    Raises:
        UsageError: a protocol is unknown or cannot use the settings; or it tests prompts on classes that they
            were not trained on, and a method's prompts fit no others; or a class has no sentences; or a
            method cannot be tested in the mode, or needs all classes in every step and is to have a sample.
    """
    cells = unique(cell for name in protocols for cell in PROTOCOLS.get(name).cells(settings))
    opened = lru_cache(maxsize=None)(partial(open_dataset, root=root))
    reading = {name for name in METHODS.names() if facts_of(name).sentences}
    for cell in cells:
        if cell.transfers and not _answers(cell, clip, opened):
            raise UsageError(
                f"{cell.protocol} tests on classes that were not trained on, and {cell.training.label} has "
                "values of its own for every training class, which fit no other; few-shot tests such methods"
            )
        if cell.training.recipe and cell.training.recipe.get("classes_per_step"):
            check_sampling(_method(cell, clip), from_dict(Recipe, cell.training.recipe))
        if cell.training.method in reading:
            _check_sentences(cell, clip, opened)
        check_mode(_method(cell, clip), mode)
    return [cell.in_mode(mode) if mode != "exact" and _conditional(cell) else cell for cell in cells]


def summarize(dataset: Dataset, clip: Backbone) -> DatasetSummary:
    """Return what protocols ask about a dataset."""
    images = Counter(item.label for item in dataset.splits.get("train", ())).values()
    longest = max(len(clip.tokenize(name.replace("_", " "))) for name in dataset.class_names)
    return DatasetSummary(
        fewest=min(images, default=0),
        most=max(images, default=0),
        domains=tuple(name for name in dataset.splits if name not in ("train", "val", "test")),
        room=clip.context_length - longest - 1,  # 1 for the full stop
    )


def _conditional(cell: Cell) -> bool:
    return facts_of(cell.training.method).conditional


def _answers(cell: Cell, clip: Backbone, opened: Callable[[str], Dataset]) -> bool:
    """Whether the method can answer among the candidates of a test: some pick theirs from those it knows."""
    train, test = cell.training, cell.testing
    method = _method(cell, clip)
    if method.transferable or any(prompt.class_specific for prompt in method.prompts):
        return method.transferable
    known = opened(train.dataset)
    labels = subset_labels(range(len(known.class_names)), train.subset)
    return {known.class_names[label] for label in labels} >= set(test.choose(opened(test.dataset))[1])


def _check_sentences(cell: Cell, clip: Backbone, opened: Callable[[str], Dataset]) -> None:
    """Look for sentences about the classes of a cell's training, where nothing is learned of its test."""
    train, method = cell.training, _method(cell, clip)
    names = opened(train.dataset).class_names
    if isinstance(method, WithSentences):
        labels = subset_labels(range(len(names)), train.subset)
        trained = [names[label] for label in labels]
        method.sentences(trained if train.learns else cell.testing.choose(opened(cell.testing.dataset))[1])


def _method(cell: Cell, clip: Backbone) -> Method:
    train = cell.training
    config = from_dict(METHODS.get(train.method).config_type, train.config)
    return build(train.method, config, clip, template="{}", n_classes=1, seed=0)


def check_data(cells: Sequence[Cell], root: str | Path | None) -> None:
    """Look for the shots and test images of the cells, so that none is missed hours later.

    Raises:
        UsageError: a dataset is unknown, or for testing only where it would be trained on.
        CocoopError: images are missing or empty; the message lists them.
    """
    splits: dict[str, set[str]] = {}
    draws: dict[str, set[tuple[int, int]]] = {}
    for cell in cells:
        splits.setdefault(cell.testing.dataset, set()).add(cell.testing.split)
        if cell.training.shots:
            draws.setdefault(cell.training.dataset, set()).add((cell.training.shots, cell.training.seed))
    for name in sorted(splits.keys() | draws):
        dataset = open_dataset(name, root)
        lists = [dataset.items(split) for split in sorted(splits.get(name, ()))]
        if name in draws:
            dataset.items("train")  # refuses what is for testing only
            lists += [draw(dataset.splits, shots, seed)["train"] for shots, seed in draws[name]]
        require_images(dataset.root, (item for items in lists for item in items))
