"""Image features: pre-drawn views in batches, and from the cache, against one image at a time."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.measure import alternate, machine, versions
from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.clip import load_backbone
from cocoop.backbones.features import ImageEncoder
from cocoop.data import open_dataset
from cocoop.data.decode import open_image
from cocoop.data.views import view_seeds


def bench_features(dataset: str, backbone: str, images: int, repeats: int = 3) -> dict[str, Any]:
    """Measure the encoding of one epoch of augmented views in three ways, and that they agree."""
    clip = load_backbone(backbone)
    data = open_dataset(dataset)
    items = data.items("train")[:images]
    seeds = view_seeds(1, 0, len(items))

    def one_by_one() -> torch.Tensor:
        each = zip(items, seeds, strict=True)
        views = (clip.preprocess.train(open_image(data.root, item.path), view) for item, view in each)
        return torch.cat([clip.encode_image(view[None]) for view in views])

    with tempfile.TemporaryDirectory() as folder:
        cached = ImageEncoder(clip, FeatureCache(Path(folder)))
        jobs = {
            "one_by_one": one_by_one,
            "batched": lambda: ImageEncoder(clip).train(data.root, items, 0, 1),
            "cached": lambda: cached.train(data.root, items, 0, 1),
        }
        difference = (jobs["one_by_one"]() - jobs["batched"]()).abs().max()
        seconds = alternate(jobs, repeats)
    medians = {f"{name}_s": sorted(values)[len(values) // 2] for name, values in seconds.items()}
    return {
        "what": f"{len(items)} augmented views of {dataset}, {backbone}",
        **medians,
        "batched_ratio": medians["one_by_one_s"] / medians["batched_s"],
        "cached_ratio": medians["one_by_one_s"] / medians["cached_s"],
        "max_feature_diff": float(difference),
        "machine": machine(),
        "versions": versions(),
    }


def main(
    dataset: Annotated[str, typer.Option(help="Registered name.")] = "emoji/food",
    backbone: Annotated[str, typer.Option(help="See `cocoop list backbones`.")] = "tiny-clip",
    images: Annotated[int, typer.Option(min=1, help="Images to encode.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Measured runs of each way, in turns.")] = 3,
) -> None:
    """Print the times of the three ways as JSON."""
    print(json.dumps(bench_features(dataset, backbone, images, repeats), indent=2))


if __name__ == "__main__":
    typer.run(main)
