"""What a method that takes no steps costs: its fit and its selection, from features.

    python -m benchmarks.closed_form --classes 100

Image features are random, and so are the weights of the text tower; what is encoded before is not counted.
Each method has the settings and as many views as its preset says. Times are medians of runs in turns.
"""

import statistics
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer

from benchmarks.measure import alternate, machine, versions
from benchmarks.text import class_names
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.methods import METHODS, build, ordered
from cocoop.methods._hooks import Bank, WithFinish, WithFit
from cocoop.methods._settings import resolve
from cocoop.training.classifier import Classifier


def main(
    classes: Annotated[int, typer.Option(min=2, help="How many of ImageNet's class names.")] = 100,
    shots: Annotated[int, typer.Option(min=1, help="Training images of each class.")] = 16,
    held_back: Annotated[int, typer.Option(min=0, help="Validation images of each class.")] = 4,
    backbone: Annotated[str, typer.Option(help="Says how long features are.")] = "ViT-B-16-quickgelu/random",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Measured runs of each method, in turns.")] = 5,
) -> None:
    """Print a table in Markdown."""
    clip = load_backbone(backbone, device, "fp32")
    closed = [name for name in ordered() if METHODS.get(name).facts.training == "closed form"]
    jobs = {name: closed_form(clip, name, classes, shots, held_back) for name in closed}
    seconds = {name: statistics.median(runs) for name, runs in alternate(jobs, repeats).items()}
    print("| method | views | fit and selection, ms |\n| --- | ---: | ---: |")
    for name in closed:
        views = getattr(resolve(name).recipe, "views", 1)
        print(f"| {METHODS.get(name).facts.name} | {views} | {1e3 * seconds[name]:.0f} |")
    print(f"\n{classes} classes, {shots} shots, {held_back} validation images of each, d = {clip.embed_dim}")
    print(f"{machine()}; {versions()}; medians of {repeats}, in turns")


def closed_form(
    clip: Backbone, name: str, classes: int, shots: int, held_back: int
) -> Callable[[], dict[str, Any]]:
    """Return a job that fits a method to random features; it returns what the method selects."""
    choice, names = resolve(name), class_names(classes)
    method: Any = build(name, choice.config, clip, template="a photo of a {}.", n_classes=len(names), seed=1)
    classifier, generator = Classifier(clip, method, names), torch.Generator().manual_seed(0)

    def images(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, clip.embed_dim, generator=generator).to(clip.device)

    bank = Bank(
        fimg=images(getattr(choice.recipe, "views", 1), classes * shots),
        labels=torch.arange(classes, device=clip.device).repeat(shots),
        fval=images(classes * held_back),
        val_labels=torch.arange(classes, device=clip.device).repeat(held_back),
        logit_scale=clip.logit_scale,
        text=classifier.text,
        sentences=classifier.sentences,
        seed=1,
    )

    def job() -> dict[str, Any]:
        if isinstance(method, WithFit):
            method.fit(bank)
        return method.finish(bank) if isinstance(method, WithFinish) else {}

    return job


if __name__ == "__main__":
    typer.run(main)
