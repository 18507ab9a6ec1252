"""A training step of CoCoOp whose activations do not fit at once: image by image, or computed twice.

    OMP_NUM_THREADS=1 python -m benchmarks.groups --batches 8,32 --memory-budget 8000000000

Three sides in turns: the released computation (padded prompts, image by image), on one image and 20 classes
and scaled; the whole batch at once, whose chunks are recomputed for the gradient; and images in groups that
fit, whose backward pass is done before the next group's forward pass. Weights are random: speed does not
depend on them.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.measure import Job, alternate, machine, peak_memory_mb, versions
from benchmarks.text import PART, class_names
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.methods._settings import resolve
from cocoop.methods.cocoop import Model as CoCoOp
from cocoop.text.reference import ReferenceEncoder
from cocoop.training.candidates import Candidates
from cocoop.training.classifier import Classifier
from cocoop.training.step import backward, descend, losses
from cocoop.utils.files import write_json

SIDES = ("whole", "groups")
Clock = Callable[[], float]


class Step:
    """A step of CoCoOp on random images of the first classes.

    Args:
        clip: the backbone.
        names: the classes.
        batch: images.
        budget: bytes for the text encoder.
    """

    def __init__(self, clip: Backbone, names: Sequence[str], batch: int, budget: int | None = None) -> None:
        config = resolve("cocoop").config
        self.method = CoCoOp(config, clip, template="", n_classes=len(names), seed=1).to(clip.device)
        self.classifier = Classifier(clip, self.method, names, budget)
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(batch, clip.embed_dim, generator=generator).to(clip.device)
        self.labels = (torch.arange(batch) % len(names)).to(clip.device)

    def whole(self) -> torch.Tensor:
        """The loss of all images, then its gradient; return that of the context."""
        self.method.zero_grad(set_to_none=True)
        backward(self.method, losses(self.classifier, self.images, self.labels), share=1.0)
        return self._gradient()

    def groups(self) -> torch.Tensor:
        """The loss and the gradient of as many images as fit, then of the next."""
        self.method.zero_grad(set_to_none=True)
        descend(Candidates(self.classifier, self.labels), self.images, self.labels, share=1.0)
        return self._gradient()

    def _gradient(self) -> torch.Tensor:
        assert self.method.ctx.grad is not None
        return self.method.ctx.grad.clone()


def bench_groups(
    classes: int, batch: int, backbone: str, repeats: int, budget: int | None, clock: Clock, device: str
) -> dict[str, Any]:
    """Measure both ways of a step beside the reference."""
    names = class_names(classes)
    clip = load_backbone(backbone, device, "fp32")
    step, part = Step(clip, names, batch, budget), Step(clip, names[:PART], 1)
    encoder: Any = ReferenceEncoder(clip, part.method.prompts[0], names[:PART])
    part.classifier.encode_text = encoder
    scale = classes * batch / len(names[:PART])
    jobs: dict[str, Job] = {"reference": part.whole, "whole": step.whole, "groups": step.groups}
    seconds = alternate(jobs, repeats, clock)
    seconds["reference"] = [scale * value for value in seconds["reference"]]
    gradients = [step.whole(), step.groups()] if batch * classes <= 200 else []
    size = step.classifier.encode_text.images_at_once(batch)
    del step, part, encoder, jobs
    return {
        "classes": classes,
        "batch": batch,
        "backbone": backbone,
        "memory_budget": budget,
        "images_at_once": size,
        "seconds": seconds,
        "ratio": {
            side: statistics.median(seconds["reference"]) / statistics.median(seconds[side]) for side in SIDES
        },
        "memory_mb": {
            side: peak_memory_mb(_prepare, side, classes, batch, backbone, device, budget) for side in SIDES
        },
        "max_gradient_diff": float((gradients[0] - gradients[1]).abs().max()) if gradients else None,
        "machine": machine(),
        "versions": versions(),
    }


def _prepare(side: str, classes: int, batch: int, backbone: str, device: str, budget: int | None) -> Job:
    torch.set_num_threads(torch.get_num_threads())  # start the thread pool before memory is read
    job: Job = getattr(
        Step(load_backbone(backbone, device, "fp32"), class_names(classes), batch, budget), side
    )
    return job


def main(
    classes: Annotated[int, typer.Option(help="How many of ImageNet's class names.")] = 500,
    batches: Annotated[str, typer.Option(help="Images a step.")] = "8,32",
    backbone: Annotated[str, typer.Option(help="Its text tower is measured.")] = "ViT-B-16-quickgelu/random",
    repeats: Annotated[int, typer.Option(help="Measured runs of each side, in turns.")] = 3,
    memory_budget: Annotated[int | None, typer.Option(help="Bytes for the text encoder.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    cpu_seconds: Annotated[
        bool, typer.Option(help="Count the processor's, where others use it too.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write the results as JSON.")] = None,
) -> None:
    """Print a table in Markdown."""
    clock = time.process_time if cpu_seconds else time.perf_counter
    print(
        "| images | at once | way | step, s | reference, s | ratio | memory, MiB |\n| ---: |" + " --- |" * 6
    )
    results = []
    for batch in map(int, batches.split(",")):
        result = bench_groups(classes, batch, backbone, repeats, memory_budget, clock, device)
        results.append(result)
        for side in SIDES:
            cells = [
                batch,
                result["images_at_once"] if side == "groups" else batch,
                side,
                spread(result["seconds"][side]),
                "~" + spread(result["seconds"]["reference"]),
                f"~{result['ratio'][side]:.1f}",
                f"{result['memory_mb'][side]:.0f}",
            ]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        if out:
            write_json(out, results)
    print(f"\n{machine()}; {json.dumps(versions())}; medians of {repeats} with the extremes, in turns")


def spread(seconds: Sequence[float]) -> str:
    """Return a median with its extremes."""
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"


if __name__ == "__main__":
    typer.run(main)
