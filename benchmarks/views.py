"""Where the time of a training view goes: reading and decoding a drawing, the view itself, the image tower.

    python -m benchmarks.views

Milliseconds of one processor for an image, medians; with one thread, as narrow towers are trained. Seeding
torch's own generator is measured beside it: it is what a view cost while it was drawn from that one.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer

from benchmarks.measure import machine, versions
from cocoop import load_backbone
from cocoop.data import open_dataset, open_image
from cocoop.data.views import training_view


def bench_views(backbone: str, dataset: str, repeats: int) -> dict[str, float]:
    """Return milliseconds of a processor for an image, by what is done."""
    clip, data = load_backbone(backbone, "cpu"), open_dataset(dataset)
    items = data.items("train")
    images = [open_image(data.root, item.path) for item in items]
    view = training_view(1, 0, len(items))
    views = clip.preprocess.batch(images, view)
    jobs: dict[str, Callable[[], object]] = {
        "read and decode": lambda: [open_image(data.root, item.path) for item in items],
        "draw the view": lambda: clip.preprocess.batch(images, view),
        "seed and restore torch's generator": lambda: [_seeded(seed) for seed in view.seeds or ()],
        "encode the view": lambda: clip.encode_image(views),
    }
    return {
        name: 1000 * statistics.median(_processors(job) for _ in range(repeats)) / len(items)
        for name, job in jobs.items()
    }


def _seeded(seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)


def _processors(job: Callable[[], object]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def main(
    backbone: Annotated[str, typer.Option(help="See `cocoop list backbones`.")] = "tiny-clip",
    dataset: Annotated[str, typer.Option(help="Whose training images.")] = "emoji/food",
    repeats: Annotated[int, typer.Option(min=1, help="Runs; medians are shown.")] = 3,
) -> None:
    """Print a table in Markdown."""
    torch.set_num_threads(1)
    print("| | ms an image |\n| --- | ---: |")
    for name, milliseconds in bench_views(backbone, dataset, repeats).items():
        print(f"| {name} | {milliseconds:.3f} |")
    print(f"\n{machine()}; {versions()}")


if __name__ == "__main__":
    typer.run(main)
