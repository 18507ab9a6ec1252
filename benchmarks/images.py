"""Image files to the pixels of a batch: ours against torchvision's ImageFolder and DataLoader.

Both have the same transforms. Draft mode, in which a JPEG decoder leaves out what a smaller image would not
show, is measured beside them to say what it would give; it gives other pixels, so it is not used.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from benchmarks.measure import alternate, machine, versions
from cocoop.backbones.features import BATCH
from cocoop.data.decode import open_image
from cocoop.data.transforms import Preprocess
from cocoop.data.views import FLIP, SCALE, TEST, training_view

CLIP = Preprocess(224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def plain(train: bool, size: int = CLIP.size) -> v2.Compose:
    """The transforms of the released code, as torchvision has them."""
    bicubic = InterpolationMode.BICUBIC
    first = (
        [v2.RandomResizedCrop(size, scale=SCALE, interpolation=bicubic), v2.RandomHorizontalFlip(FLIP)]
        if train
        else [v2.Resize(size, interpolation=bicubic), v2.CenterCrop(size)]
    )
    last = [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(CLIP.mean), list(CLIP.std)),
    ]
    return v2.Compose([*first, *last])


def bench_images(folder: Path, images: int, train: bool, workers: int, repeats: int = 5) -> dict[str, Any]:
    """Measure images a second over a tree with a folder a class, and that the pixels are the same."""
    tree = ImageFolder(folder, plain(train))
    step = max(1, len(tree) // images)
    tree.samples = tree.samples[::step][:images]
    paths = [Path(path).relative_to(folder).as_posix() for path, _ in tree.samples]
    view = training_view(1, 0, len(paths)) if train else TEST

    def ours(open_file: Callable[[Path, str], Image.Image] = open_image) -> list[Tensor]:
        read = partial(open_file, folder)
        return [
            CLIP.batch(paths[start : start + BATCH], view.part(start, start + BATCH), read)
            for start in range(0, len(paths), BATCH)
        ]

    def loader(count: int) -> list[Tensor]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the loader's own processes have it; more are slower
        try:
            return [batch for batch, _ in DataLoader(tree, batch_size=BATCH, num_workers=count)]
        finally:
            torch.set_num_threads(threads)

    jobs: dict[str, Callable[[], object]] = {
        "loader_0": lambda: loader(0),
        f"loader_{workers}": lambda: loader(workers),
        "ours": ours,
        "ours_draft": lambda: ours(_draft),
    }
    difference = None if train else float((torch.cat(loader(0)) - torch.cat(ours())).abs().max())
    seconds = alternate(jobs, repeats)
    return {
        "what": f"{len(paths)} {'training' if train else 'test'} views of {folder.name}, 224 pixels",
        "images_per_second": {
            name: [round(len(paths) / value) for value in (median(times), max(times), min(times))]
            for name, times in seconds.items()
        },
        "repeats": repeats,
        "max_pixel_difference": difference,
        "max_draft_difference": float((torch.cat(ours(_draft)) - torch.cat(ours())).abs().max()),
        "machine": machine(),
        "versions": versions(),
    }


def _draft(folder: Path, path: str) -> Image.Image:
    with Image.open(folder / path) as image:
        image.draft("RGB", (CLIP.size, CLIP.size))
        return image.convert("RGB")


def main(
    folder: Annotated[Path, typer.Argument(help="A tree with a folder of images a class.")],
    images: Annotated[int, typer.Option(min=1, help="So many of them.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the loader.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Measured runs of each way, in turns.")] = 5,
) -> None:
    """Print images a second of every way, the median with the extremes, as JSON."""
    print(
        json.dumps(
            [bench_images(folder, images, train, workers, repeats) for train in (False, True)], indent=2
        )
    )


if __name__ == "__main__":
    typer.run(main)
