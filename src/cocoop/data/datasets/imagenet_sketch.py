"""ImageNet-Sketch (Wang et al., 2019): black and white sketches of ImageNet's classes. For testing only."""

from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.benchmark.wordnet import wnid_folders
from cocoop.data.datasets import DATASETS

DATASETS.register("imagenet_sketch")(
    Benchmark(
        name="imagenet_sketch",
        folder="imagenet-sketch",
        images="images",
        labels=wnid_folders(test="."),
        template="a photo of a {}.",
        classes=1_000,
        counts={"test": 50_889},
        source="https://github.com/HaohanWang/ImageNet-Sketch",
        mirrors={
            "imagenet-sketch/sketch": "mv imagenet-sketch/sketch imagenet-sketch/images",
            "sketch/n01440764": "mkdir -p imagenet-sketch && mv sketch imagenet-sketch/images",
        },
    )
)
