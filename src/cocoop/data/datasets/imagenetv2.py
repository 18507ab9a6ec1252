"""ImageNetV2, matched frequency (Recht et al., 2019): a second ImageNet test set. For testing only."""

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
    )
)
