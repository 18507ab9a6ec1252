"""How long cells will take: the work that is counted, times what a little of it takes on this machine."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cocoop.backbones.clip import Backbone
from cocoop.backbones.device import synchronize
from cocoop.data import open_dataset
from cocoop.experiments.cell import Cell, Training
from cocoop.experiments.cost import count_work, learns_texts
from cocoop.experiments.store import Store
from cocoop.methods import METHODS, build
from cocoop.methods._hooks import cut_of
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

    Text is counted in sequences and probed with a few classes; images are counted as views, and as those that
    steps take through what is learned in the image tower, and probed without reading files. What is computed
    in closed form is not counted, it takes seconds.
    """
    costs, encoding = count_work(cells, store, clip, root)
    firsts = {cell.training.label: cell.training for cell in reversed(cells)}
    total = encoding.views * _per_view(clip)
    for cost in costs:
        classify = _probe(firsts[cost.label], clip, root, memory_budget)
        trained, tested = _per_sequence(classify)
        total += cost.trained * trained + cost.tested * tested
        total += cost.images * _per_image(classify) if cost.images else 0.0
    return total


def _per_view(clip: Backbone) -> float:
    pixels = torch.rand(IMAGES, 3, *clip.preprocess.edges)
    return _seconds(lambda: clip.encode_image(pixels)) / IMAGES


def _probe(
    training: Training, clip: Backbone, root: str | Path | None, memory_budget: int | None
) -> Classifier:
    """Return a method over a few classes."""
    dataset = open_dataset(training.dataset, root)
    names = dataset.class_names[:CLASSES]
    config = from_dict(METHODS.get(training.method).config_type, training.config)
    method = build(training.method, config, clip, template=dataset.template, n_classes=len(names), seed=0)
    return Classifier(clip, method, names, memory_budget)


def _per_sequence(classify: Classifier) -> tuple[float, float]:
    """Return the seconds of a text sequence in training and in a test; 0 where no text feature changes."""
    if not learns_texts(classify.method):
        return 0.0, 0.0
    with torch.no_grad():
        fimg = classify.see(_states(classify, 1))

    def step() -> None:
        texts = classify.encode(classify.contexts(fimg))
        classify.pair(fimg, texts).similarity.logsumexp(1).sum().backward()

    sequences = len(classify.method.prompts) * len(classify.class_names)
    return _seconds(step) / sequences, _seconds(lambda: classify.predict(fimg)) / sequences


def _per_image(classify: Classifier) -> float:
    """Return the seconds of an image in training, from the cut of the image tower on and back."""
    states = _states(classify, IMAGES)
    return _seconds(lambda: classify.see(states).sum().backward()) / IMAGES


def _states(classify: Classifier, images: int) -> Tensor:
    """Return what some images are at the cut; the features of most methods are made without a tower."""
    clip, cut = classify.backbone, cut_of(classify.method)
    if cut == "feature":
        return normalize(torch.ones(images, clip.embed_dim), dim=1)
    return clip.encode_image(torch.rand(images, 3, *clip.preprocess.edges), cut)


def _seconds(job: Callable[[], object]) -> float:
    job()  # the first call prepares things
    start = time.perf_counter()
    job()
    synchronize()
    return time.perf_counter() - start
