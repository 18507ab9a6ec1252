"""How long cells will take: the work that is counted, times what a little of it takes on this machine."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn.functional import normalize

from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import synchronize
from cocoop.data import open_dataset
from cocoop.experiments.cell import Cell, Training
from cocoop.experiments.cost import count_work
from cocoop.experiments.store import Store
from cocoop.methods import METHODS, build
from cocoop.methods._settings import from_dict
from cocoop.training.classifier import Classifier

CLASSES = 20  # of the probe
IMAGES = 4


def estimate(
    cells: Sequence[Cell],
    store: Store,
    clip: Backbone,
    root: str | Path | None,
    memory_budget: int | None = None,
) -> float:
    """Return about how many seconds one process needs for cells that have no record.

    Text is counted in sequences and probed with a few classes; images are counted as views and probed
    without reading files. What is computed in closed form is not counted, it takes seconds.
    """
    costs, views = count_work(cells, store, clip, root)
    firsts = {cell.training.label: cell.training for cell in reversed(cells)}
    total = views * _per_view(clip)
    for cost in costs:
        trained, tested = _per_sequence(firsts[cost.label], clip, root, memory_budget)
        total += cost.trained * trained + cost.tested * tested
    return total


def _per_view(clip: Backbone) -> float:
    pixels = torch.rand(IMAGES, 3, *clip.preprocess.edges)
    return _seconds(lambda: clip.encode_image(pixels)) / IMAGES


def _per_sequence(
    training: Training, clip: Backbone, root: str | Path | None, memory_budget: int | None
) -> tuple[float, float]:
    """Return the seconds of a text sequence in training and in a test; 0 where no context is learned."""
    dataset = open_dataset(training.dataset, root)
    names = dataset.class_names[:CLASSES]
    config = from_dict(METHODS.get(training.method).config_type, training.config)
    method = build(training.method, config, clip, template=dataset.template, n_classes=len(names), seed=0)
    if not any(prompt.n_ctx for prompt in method.prompts):
        return 0.0, 0.0
    classify = Classifier(clip, method, names, memory_budget)
    fimg = normalize(torch.ones(1, clip.embed_dim), dim=1)
    sequences = len(method.prompts) * len(names)
    trained = _seconds(lambda: classify(fimg).logsumexp(1).sum().backward())
    return trained / sequences, _seconds(lambda: classify.predict(fimg)) / sequences


def _seconds(job: Callable[[], object]) -> float:
    job()  # the first call prepares things
    start = time.perf_counter()
    job()
    synchronize()
    return time.perf_counter() - start
