"""What a training step costs whose method learns inside the image tower, beside the released computation.

    python -m benchmarks.towers --classes 50

The released computation encodes every prompt on its own, padded to the tower's context, and runs the same
image tower. Pixels and weights are random, on which time does not depend. Times are medians of runs in turns,
memory is the peak of a step over the loaded model, each in a process of its own.
"""

import statistics
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks.measure import alternate, machine, peak_memory_mb, versions
from benchmarks.text import class_names
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.methods import METHODS, build, facts_of
from cocoop.methods._hooks import cut_of
from cocoop.methods._settings import resolve
from cocoop.text.reference import ReferenceEncoder
from cocoop.training.classifier import Classifier
from cocoop.training.step import backward, losses


class Step:
    """A forward and backward pass of a method over random pixels.

    Args:
        clip: the frozen CLIP.
        name: of the method.
        classes: how many of ImageNet's class names.
        batch: images.
        budget: bytes for activations; None for what the machine allows.
        released: whether texts are encoded as the released code does.
    """

    def __init__(
        self, clip: Backbone, name: str, classes: int, batch: int, budget: int | None, released: bool
    ) -> None:
        names = class_names(classes)
        method: Any = build(
            name, resolve(name).config, clip, template="a photo of a {}.", n_classes=classes, seed=1
        )
        self.method = method.train()
        self.classifier = Classifier(clip, method, names, budget)
        if released:
            self.classifier.encode_text = ReferenceEncoder(clip, method.prompts[0], names)  # type: ignore[assignment]
        pixels = torch.randn(batch, 3, *clip.preprocess.edges, generator=torch.Generator().manual_seed(0))
        self.state = clip.encode_image(pixels, cut_of(method))
        self.labels = (torch.arange(batch) % classes).to(clip.device)

    def __call__(self) -> Tensor:
        """Take the step; return the loss."""
        self.method.zero_grad()
        return backward(self.method, losses(self.classifier, self.state, self.labels), share=1.0).sum()


def prepare(
    backbone: str, device: str, precision: str, name: str, classes: int, batch: int, budget: int | None,
    released: bool,
) -> Step:  # fmt: skip
    """Return a step, in a process that measures its memory."""
    return Step(load_backbone(backbone, device, precision), name, classes, batch, budget, released)


def main(
    methods: Annotated[str, typer.Option(help="Separated by commas.")] = "cocoop,maple,promptsrc",
    classes: Annotated[str, typer.Option(help="Numbers of ImageNet's class names.")] = "50",
    batch: Annotated[int, typer.Option(min=1, help="Images a step; a conditional method takes one.")] = 4,
    backbone: Annotated[str, typer.Option(help="Built, not fetched.")] = "ViT-B-16-quickgelu/random",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="Of the towers.")] = "fp32",
    budget: Annotated[float, typer.Option(help="GB for activations; 0 for what the machine allows.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Measured runs of each, in turns.")] = 3,
) -> None:
    """Print a table in Markdown."""
    clip, limit = load_backbone(backbone, device, precision), int(budget * 1e9) or None
    head = "| method | classes | images | step, s | released, s | ratio | memory, MB | released, MB |"
    print(f"{head}\n| --- |" + " ---: |" * 7)
    for name in methods.split(","):
        for count in map(int, classes.split(",")):
            images = 1 if METHODS.get(name).facts.conditional else batch
            sides = {"engine": False, "released": True}
            jobs = {side: Step(clip, name, count, images, limit, old) for side, old in sides.items()}
            seconds = {side: statistics.median(runs) for side, runs in alternate(jobs, repeats).items()}
            del jobs
            given = (backbone, device, precision, name, count, images, limit)
            memory = {side: peak_memory_mb(prepare, *given, old) for side, old in sides.items()}
            ratio = seconds["released"] / seconds["engine"]
            times = f"{seconds['engine']:.3f} | {seconds['released']:.3f} | {ratio:.1f}"
            held = f"{memory['engine']:.0f} | {memory['released']:.0f}"
            print(f"| {facts_of(name).name} | {count} | {images} | {times} | {held} |")
    print(
        f"\n{backbone}, {clip.device}, {precision}; {machine()}; {versions()}; medians of {repeats}, in turns"
    )


if __name__ == "__main__":
    typer.run(main)
