"""ImageNetV2, matched frequency (Recht et al., 2019): a second ImageNet test set. For testing only."""

from cocoop.data.benchmark.remote import Download, Remote, collection
from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.benchmark.wordnet import numbered_folders
from cocoop.data.datasets import DATASETS

_IMAGES = "imagenetv2-matched-frequency-format-val"

DATASETS.register("imagenetv2")(
    Benchmark(
        name="imagenetv2",
        folder="imagenetv2",
        images=_IMAGES,
        labels=numbered_folders(),
        template="a photo of a {}.",
        classes=1_000,
        counts={"test": 10_000},
        source="https://github.com/modestyachts/ImageNetV2 (imagenetv2-matched-frequency.tar.gz)",
        mirrors={_IMAGES: f"mkdir -p imagenetv2 && mv {_IMAGES} imagenetv2/"},
        terms="MIT",
        downloads=(
            Download(
                {_IMAGES: _IMAGES},
                (
                    Remote(
                        "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/"
                        "imagenetv2-matched-frequency.tar.gz",
                        1_264_079_360,
                        "f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
                    ),
                    collection("imagenetv2.zip"),
                ),
            ),
        ),
    )
)
