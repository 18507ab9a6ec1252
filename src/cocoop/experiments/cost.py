"""What cells will cost, counted: steps of training, text sequences and images."""

import dataclasses
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from cocoop.backbones.clip import Backbone
from cocoop.data import Dataset, open_dataset
from cocoop.data.splits import draw, select, subset_labels
from cocoop.experiments.cell import Cell, Training
from cocoop.experiments.store import Store
from cocoop.methods import METHODS, Method, build
from cocoop.methods._hooks import WithSentences, views_of
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import from_dict
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
    """

    label: str
    trainings: int = 0
    steps: int = 0
    trained: int = 0
    tested: int = 0


def count_work(
    cells: Sequence[Cell], store: Store, clip: Backbone, root: str | Path | None
) -> tuple[list[Cost], int]:
    """Return the work of each method for the cells that are not finished, and the images to encode."""
    opened = lru_cache(maxsize=None)(partial(open_dataset, root=root))
    costs: dict[str, Cost] = {}
    views: dict[tuple[Any, ...], int] = {}
    trained = {cell.training.key for cell in cells if store.prompt_path(cell.training).exists()}
    for cell in cells:
        training, testing = cell.training, cell.testing
        cost = costs.setdefault(training.label, Cost(training.label))
        items, names = testing.choose(opened(testing.dataset))
        template = opened(testing.dataset).template
        method = _method(training, clip, template)
        images = cost_in_images(method, cell.mode, len(items), len(names), clip.embed_dim)
        cost.tested += _sequences(training, clip, template, images, len(names), tested=True)
        looks = views_of(method)
        drawn_by = (looks, training.seed) if looks.count > 1 else ()
        seen = ("test", testing.dataset, testing.subset, testing.split, *drawn_by)
        views[seen] = looks.count * len(items)
        if training.recipe and training.key not in trained:
            trained.add(training.key)
            recipe = from_dict(Recipe, training.recipe)
            shots, classes = _shots(training, opened(training.dataset))
            examples = shots or _sentences(training, opened(training.dataset), clip)
            steps = recipe.all_steps(examples)
            cost.trainings += 1
            cost.steps += steps
            batch = min(recipe.batch_size or examples, examples)
            compared = min(recipe.classes_per_step or classes, classes)
            cost.trained += _sequences(training, clip, template, batch, compared, steps)
            drawn = ("train", training.dataset, training.subset, training.shots, training.seed)
            every = recipe.views if recipe.from_views else max(recipe.views, recipe.all_epochs(shots))
            views[drawn] = max(views.get(drawn, 0), every * shots)
    return list(costs.values()), sum(views.values())


def _shots(training: Training, dataset: Dataset) -> tuple[int, int]:
    """Return the number of images and of classes of a training."""
    labels = subset_labels(range(len(dataset.class_names)), training.subset)
    if not training.shots:
        return 0, len(labels)
    return len(select(draw(dataset.splits, training.shots, training.seed)["train"], labels)), len(labels)


def _sentences(training: Training, dataset: Dataset, clip: Backbone) -> int:
    """Return the number of sentences that a method without images is trained on."""
    method = _method(training, clip, dataset.template)
    if not isinstance(method, WithSentences):
        return 0
    names = [
        dataset.class_names[label]
        for label in subset_labels(range(len(dataset.class_names)), training.subset)
    ]
    return sum(len(each) for given in method.sentences(names).values() for each in given)


def _method(training: Training, clip: Backbone, template: str) -> Method:
    config = from_dict(METHODS.get(training.method).config_type, training.config)
    return build(training.method, config, clip, template=template, n_classes=1, seed=0)


def _sequences(
    training: Training,
    clip: Backbone,
    template: str,
    images: int,
    classes: int,
    steps: int = 1,
    tested: bool = False,
) -> int:
    """Count the prompts that go through the text tower in steps of so many images against so many classes."""
    method = _method(training, clip, template)
    prompts = method.prompts
    if not any(prompt.n_ctx for prompt in prompts):  # nothing is learned in them: once for all steps
        return len(prompts) * classes
    each = method.facts.conditional or (tested and method.facts.adapts_to == "views")
    return len(prompts) * classes * (images if each else 1) * steps
