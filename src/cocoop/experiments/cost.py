"""What cells will cost, counted: steps of training, text sequences, images and what is kept of them."""

import dataclasses
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from cocoop.backbones.clip import Backbone
from cocoop.backbones.features import bytes_at, keeps
from cocoop.data import Dataset, open_dataset
from cocoop.data.dataset import Item
from cocoop.data.splits import draw, select, subset_labels
from cocoop.experiments.cell import Cell, Training
from cocoop.experiments.store import Store
from cocoop.methods import METHODS, Method, build
from cocoop.methods._hooks import WithSentences, WithTextChanges, cut_of, step_views_of, views_of
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import from_dict
from cocoop.training.samples import shots_of
from cocoop.training.screening import cost_in_images


@dataclasses.dataclass
class Cost:
    """The work of one method.

    Attributes:
        label: of the method.
        trainings: prompts to train.
        steps: of the optimiser.
        trained: text sequences of all steps: a step has one for each class, and for each image as well
            where the context depends on it.
        tested: text sequences of all tests; where a context is tuned to every image at least so many.
        images: of all steps, that go through the image tower from the cut on, forward and back.
    """

    label: str
    trainings: int = 0
    steps: int = 0
    trained: int = 0
    tested: int = 0
    images: int = 0


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Images that go through the image tower once, up to the cut or with all that was learned there.

    Attributes:
        views: of all of them.
        bytes: that the cache keeps of them.
    """

    views: int = 0
    bytes: int = 0

    def __add__(self, other: "Encoding") -> "Encoding":
        """Both together."""
        return Encoding(self.views + other.views, self.bytes + other.bytes)


def count_work(
    cells: Sequence[Cell], store: Store, clip: Backbone, root: str | Path | None
) -> tuple[list[Cost], Encoding]:
    """Return the work of each method for the cells that are not finished, and the images to encode."""
    opened = lru_cache(maxsize=None)(partial(open_dataset, root=root))
    costs: dict[str, Cost] = {}
    encoded: dict[tuple[Any, ...], Encoding] = {}
    trained = {cell.training.key for cell in cells if store.prompt_path(cell.training).exists()}
    for cell in cells:
        training, testing = cell.training, cell.testing
        cost = costs.setdefault(training.label, Cost(training.label))
        items, names = testing.choose(opened(testing.dataset))
        template = opened(testing.dataset).template
        method = _method(training, clip, template)
        images = cost_in_images(method, cell.mode, len(items), len(names), clip.embed_dim)
        cost.tested += _sequences(method, images, len(names), tested=True)
        encoded |= _tested(cell, method, clip, len(items))
        if training.recipe and training.key not in trained:
            trained.add(training.key)
            _count_training(training, method, opened(training.dataset), cost)
            encoded |= _trained(training, method, clip, opened(training.dataset), encoded)
    return list(costs.values()), sum(encoded.values(), Encoding())


def _count_training(training: Training, method: Method, dataset: Dataset, cost: Cost) -> None:
    """Add the steps of a training to the work of its method."""
    recipe = from_dict(Recipe, training.recipe or {})
    items, names = _shots(training, dataset)
    examples = len(items) or _sentences(method, names)
    steps = recipe.all_steps(examples, shots_of(item.label for item in items))
    batch = min(recipe.batch_size or examples, examples)
    compared = min(recipe.classes_per_step or len(names), len(names))
    cost.trainings += 1
    cost.steps += steps
    cost.trained += _sequences(method, batch, compared, steps)
    if cut_of(method) not in ("feature", "projection"):
        cost.images += steps * batch


def _trained(
    training: Training,
    method: Method,
    clip: Backbone,
    dataset: Dataset,
    before: dict[tuple[Any, ...], Encoding],
) -> dict[tuple[Any, ...], Encoding]:
    """Return the views of a training's images that are encoded, for it or for a longer one before."""
    recipe, cut = from_dict(Recipe, training.recipe or {}), cut_of(method)
    items, _ = _shots(training, dataset)
    if not keeps(clip, cut, len(items)):  # made for each step
        return {}
    epochs = recipe.all_epochs(len(items), shots_of(item.label for item in items))
    views = recipe.views if recipe.from_views else max(recipe.views, epochs * step_views_of(method))
    key = ("train", training.dataset, training.subset, training.shots, training.seed, cut)
    own = Encoding(views * len(items), views * bytes_at(clip, cut, len(items)))
    return {key: max(own, before.get(key, Encoding()), key=lambda encoding: encoding.views)}


def _tested(cell: Cell, method: Method, clip: Backbone, images: int) -> dict[tuple[Any, ...], Encoding]:
    """Return the views of the test images; what a trained image tower makes of them is not kept."""
    testing, training, cut = cell.testing, cell.training, cut_of(method)
    looks = views_of(method).count
    kept = cut in ("feature", "projection")
    drawn_by = () if kept and looks == 1 else (looks, training.seed) if kept else (training.key,)
    key = ("test", testing.dataset, testing.subset, testing.split, cut, *drawn_by)
    size = bytes_at(clip, cut, images) if kept else 0
    return {key: Encoding(looks * images, looks * size)}


def _shots(training: Training, dataset: Dataset) -> tuple[tuple[Item, ...], list[str]]:
    """Return the images and the class names of a training."""
    labels = subset_labels(range(len(dataset.class_names)), training.subset)
    names = [dataset.class_names[label] for label in labels]
    if not training.shots:
        return (), names
    return select(draw(dataset.splits, training.shots, training.seed)["train"], labels), names


def _sentences(method: Method, names: list[str]) -> int:
    """Return the number of sentences that a method without images is trained on."""
    if not isinstance(method, WithSentences):
        return 0
    return sum(len(each) for given in method.sentences(names).values() for each in given)


def _method(training: Training, clip: Backbone, template: str) -> Method:
    config = from_dict(METHODS.get(training.method).config_type, training.config)
    return build(training.method, config, clip, template=template, n_classes=1, seed=0)


def _sequences(method: Method, images: int, classes: int, steps: int = 1, tested: bool = False) -> int:
    """Count the prompts that go through the text tower in steps of so many images against so many classes."""
    prompts = method.prompts
    if not learns_texts(method):  # once for all steps
        return len(prompts) * classes
    each = method.facts.conditional or (tested and method.facts.adapts_to == "views")
    return len(prompts) * classes * (images if each else 1) * steps


def learns_texts(method: Method) -> bool:
    """Whether the text features change in training."""
    return any(prompt.n_ctx for prompt in method.prompts) or isinstance(method, WithTextChanges)
