"""A whole few-shot fit of CoCoOp: the engine and cached features against the reference path."""

import json
import time
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.measure import machine, versions
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.backbones.features import ImageEncoder
from cocoop.data import Dataset, Item, open_dataset
from cocoop.data.decode import open_image
from cocoop.data.splits import draw, select, subset_labels
from cocoop.data.views import view_seeds
from cocoop.methods import build
from cocoop.methods._recipe import Recipe
from cocoop.methods.cocoop import Config
from cocoop.text.reference import ReferenceEncoder
from cocoop.training.classifier import Classifier
from cocoop.training.log import TrainingLog
from cocoop.training.loop import fit
from cocoop.training.samples import Samples


def bench_fit(dataset: str, backbone: str, epochs: int, shots: int = 16, seed: int = 1) -> dict[str, Any]:
    """Train CoCoOp twice on the base classes from the same seed and compare time, losses and accuracy.

    Both sides load and augment images, encode them, train and test on the base classes. The reference
    encodes images one at a time, as a loop with batch size 1 does, and prompts padded, one image at a time.
    """
    clip = load_backbone(backbone)
    data = open_dataset(dataset)
    labels = subset_labels((item.label for item in data.items("train")), "base")
    items = select(draw(data.splits, shots, seed)["train"], labels)
    tests = select(data.items("test"), labels)
    names = [data.class_names[label] for label in labels]
    recipe = Recipe(epochs=epochs)
    runs = {
        side: _run(side, clip, data, items, tests, names, recipe, seed) for side in ("reference", "engine")
    }
    (reference_s, reference, right), (engine_s, engine, ours) = runs["reference"], runs["engine"]
    steps = min(200, len(reference.loss))
    theirs, mine = np.array(reference.loss[:steps]), np.array(engine.loss[:steps])
    return {
        "what": f"fit of CoCoOp on {dataset} base, {len(names)} classes, {backbone}",
        "steps": len(reference.loss),
        "reference_s": reference_s,
        "engine_s": engine_s,
        "ratio": reference_s / engine_s,
        "reference_step_s": reference.seconds_per_step,
        "engine_step_s": engine.seconds_per_step,
        "step_ratio": reference.seconds_per_step / engine.seconds_per_step,
        "max_relative_loss_diff": float((np.abs(theirs - mine) / np.abs(theirs)).max()),
        "loss_steps": steps,
        "reference_correct": right,
        "engine_correct": ours,
        "total": len(tests),
        "machine": machine(),
        "versions": versions(),
    }


def _run(
    side: str,
    clip: Backbone,
    data: Dataset,
    items: tuple[Item, ...],
    tests: tuple[Item, ...],
    names: list[str],
    recipe: Recipe,
    seed: int,
) -> tuple[float, TrainingLog, int]:
    start = time.perf_counter()
    method: Any = build("cocoop", Config(), clip, template=data.template, n_classes=len(names), seed=seed)
    classifier: Any = Classifier(clip, method, names)
    if side == "reference":
        classifier.encode_text = ReferenceEncoder(clip, method.prompts[0], names)
    encoder = ImageEncoder(clip)

    def views(epoch: int) -> torch.Tensor:
        if side == "engine":
            return encoder.train(data.root, items, epoch, seed)
        seeds = view_seeds(seed, epoch, len(items))
        each = zip(items, seeds, strict=True)
        views = (clip.preprocess.train(open_image(data.root, item.path), view) for item, view in each)
        return torch.cat([clip.encode_image(view[None]) for view in views])

    truth = torch.tensor([item.label for item in items])
    trace = fit(classifier, Samples(views, truth), recipe, seed)
    predicted = classifier.predict(encoder.test(data.root, tests)).argmax(1)
    correct = int((predicted == torch.tensor([item.label for item in tests])).sum())
    return time.perf_counter() - start, trace, correct


def main(
    dataset: Annotated[str, typer.Option(help="Registered name.")] = "emoji/food",
    backbone: Annotated[str, typer.Option(help="See `cocoop list backbones`.")] = "tiny-clip",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the shots.")] = 10,
    shots: Annotated[int, typer.Option(min=1, help="Training images a class.")] = 16,
) -> None:
    """Print the times, losses and accuracies of both sides as JSON."""
    print(json.dumps(bench_fit(dataset, backbone, epochs, shots), indent=2))


if __name__ == "__main__":
    typer.run(main)
