"""What a training step of each method costs beside CoOp's, and what it learns.

    python -m benchmarks.methods --classes 50

Steps are forward and backward over random image features, or where a method learns inside the image tower
from what images are there; weights are random too, on which time does not depend. Times are medians of runs
in turns. A conditional method takes one image: each has its own context.
"""

import statistics
from typing import Annotated, Any

import torch
import typer
from torch.nn import functional as F

from benchmarks.measure import alternate, machine, versions
from benchmarks.text import class_names
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.methods import METHODS, build, ordered
from cocoop.methods._hooks import cut_of
from cocoop.methods._settings import resolve
from cocoop.training.classifier import Classifier
from cocoop.training.step import backward, losses

BASE = "coop"


def main(
    classes: Annotated[int, typer.Option(min=1, help="How many of ImageNet's class names.")] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Images a step; a conditional method takes one.")] = 32,
    backbone: Annotated[str, typer.Option(help="Its text tower is measured.")] = "ViT-B-16-quickgelu/random",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Measured runs of each method, in turns.")] = 5,
) -> None:
    """Print a table in Markdown."""
    clip = load_backbone(backbone, device, "fp32")
    names = class_names(classes)
    facts = {name: METHODS.get(name).facts for name in ordered()}
    steps = [
        name for name, fact in facts.items() if fact.training == "steps" and fact.images and not fact.ablation
    ]
    jobs = {name: _step(clip, name, names, 1 if facts[name].conditional else batch) for name in steps}
    seconds = {name: statistics.median(runs) for name, runs in alternate(jobs, repeats).items()}
    print(f"| method | images | step, ms | beside {BASE} | learned numbers |\n| --- |" + " ---: |" * 4)
    for name in steps:
        count = 1 if facts[name].conditional else batch
        times = f"{1e3 * seconds[name]:.0f} | {seconds[name] / seconds[BASE]:.2f}"
        print(f"| {facts[name].name} | {count} | {times} | {_learned(clip, name, classes):,} |")
    print(f"\n{machine()}; {versions()}; medians of {repeats}, in turns")


def _method(clip: Backbone, name: str, classes: int) -> Any:
    config = resolve(name).config
    return build(name, config, clip, template="a photo of a {}.", n_classes=classes, seed=1)


def _step(clip: Backbone, name: str, names: Any, batch: int) -> Any:
    method = _method(clip, name, len(names))
    classifier = Classifier(clip, method, names)
    generator, cut = torch.Generator().manual_seed(0), cut_of(method)
    if cut == "feature":
        images = F.normalize(torch.randn(batch, clip.embed_dim, generator=generator), dim=1).to(clip.device)
    else:
        images = clip.encode_image(torch.randn(batch, 3, *clip.preprocess.edges, generator=generator), cut)
    labels = (torch.arange(batch) % len(names)).to(clip.device)
    return lambda: backward(method, losses(classifier, images, labels), share=1.0)


def _learned(clip: Backbone, name: str, classes: int) -> int:
    return sum(parameter.numel() for parameter in _method(clip, name, classes).parameters())


if __name__ == "__main__":
    typer.run(main)
