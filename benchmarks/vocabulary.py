"""A training step of CoCoOp over a large vocabulary, of which every step compares a sample.

    OMP_NUM_THREADS=1 python -m benchmarks.vocabulary --names 21000 --samples 100,1000

Names are made up of one to three words of CLIP's own vocabulary; neither time nor memory depends on what the
words mean. A step is all that training does: the draw, the token tree of the sample, forward and backward.
For comparison, a step over as many names as the sample has, and no others.
"""

import json
import random
import statistics
import time
from collections.abc import Sequence
from typing import Annotated, Any

import torch
import typer

from benchmarks.groups import Clock, Step, spread
from benchmarks.measure import Job, alternate, machine, peak_memory_mb, versions
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.methods._parts import whole_words
from cocoop.methods._recipe import Recipe
from cocoop.text.tree_encoder import TreeEncoder
from cocoop.training.candidates import Candidates, candidates
from cocoop.training.step import descend


def made_up(clip: Backbone, count: int) -> list[str]:
    """Return names of one to three words, the same in every run."""
    words, draw = sorted(whole_words(clip).values()), random.Random(0)
    return [" ".join(draw.sample(words, draw.choice((1, 2, 2, 3)))) for _ in range(count)]


class Sampled:
    """Steps of CoCoOp over a sample of the names, a new one each time."""

    def __init__(self, clip: Backbone, names: Sequence[str], size: int, batch: int) -> None:
        self.step = Step(clip, names, batch)
        self.recipe = Recipe(classes_per_step=size, batch_size=batch)
        self.count = 0

    def draw(self) -> Candidates:
        """The draw and the token tree of its classes."""
        self.count += 1
        some = candidates(self.step.classifier, self.step.labels, self.recipe, 0, self.count)
        encoder = some.classifier.encode_text
        (tree,) = encoder._encoders
        assert isinstance(tree, TreeEncoder)
        tree._chunk(0, len(encoder.class_names))
        return some

    def __call__(self) -> None:
        some = self.draw()
        self.step.method.zero_grad(set_to_none=True)
        descend(some, self.step.images, some.labels, share=1.0)


def bench_vocabulary(
    names: int, size: int, batch: int, backbone: str, repeats: int, clock: Clock, device: str
) -> dict[str, Any]:
    """Measure a step over a sample, its preparation, and a step over as many names alone."""
    clip = load_backbone(backbone, device, "fp32")
    known = made_up(clip, names)
    start = clock()
    sampled = Sampled(clip, known, size, batch)
    once = clock() - start
    alone = Step(clip, known[:size], batch)
    jobs: dict[str, Job] = {"sampled": sampled, "draw": sampled.draw, "alone": alone.groups}
    seconds = alternate(jobs, repeats, clock)
    del sampled, alone, jobs, clip
    sides = ("sampled", "alone")
    memory = {side: peak_memory_mb(_prepare, side, names, size, batch, backbone, device) for side in sides}
    return {
        "names": names,
        "size": size,
        "batch": batch,
        "once_s": once,
        "seconds": seconds,
        "memory_mb": memory,
    }


def _prepare(side: str, names: int, size: int, batch: int, backbone: str, device: str) -> Job:
    torch.set_num_threads(torch.get_num_threads())  # start the thread pool before memory is read
    clip = load_backbone(backbone, device, "fp32")
    known = made_up(clip, names)
    return Sampled(clip, known, size, batch) if side == "sampled" else Step(clip, known[:size], batch).groups


def main(
    names: Annotated[int, typer.Option(help="In the vocabulary.")] = 21_000,
    samples: Annotated[str, typer.Option(help="Sizes of the sample.")] = "100,1000",
    batch: Annotated[int, typer.Option(help="Images a step.")] = 1,
    backbone: Annotated[str, typer.Option(help="Its text tower is measured.")] = "ViT-B-16-quickgelu/random",
    repeats: Annotated[int, typer.Option(help="Measured runs of each side, in turns.")] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    cpu_seconds: Annotated[
        bool, typer.Option(help="Count the processor's, where others use it too.")
    ] = False,
) -> None:
    """Print a table in Markdown."""
    clock = time.process_time if cpu_seconds else time.perf_counter
    print(
        "| names | classes a step | step, s | of it draw and tree, s | these classes alone, s | memory, MiB "
        "| alone, MiB | once, s |\n|" + " ---: |" * 8
    )
    for size in map(int, samples.split(",")):
        found = bench_vocabulary(names, size, batch, backbone, repeats, clock, device)
        seconds, memory = found["seconds"], found["memory_mb"]
        cells = [
            names,
            size,
            spread(seconds["sampled"]),
            f"{statistics.median(seconds['draw']):.3f}",
            spread(seconds["alone"]),
            f"{memory['sampled']:.0f}",
            f"{memory['alone']:.0f}",
            f"{found['once_s']:.1f}",
        ]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    print(f"\n{machine()}; {json.dumps(versions())}; medians of {repeats} with the extremes, in turns")


if __name__ == "__main__":
    typer.run(main)
