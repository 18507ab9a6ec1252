"""ImageNet-Sketch (Wang et al., 2019): black and white sketches of ImageNet's classes. For testing only."""

from cocoop.data.benchmark.remote import Download, Remote, collection, on_drive
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
        terms="for research; none is stated",
        downloads=(
            Download(
                {"sketch": "images", "images": "images"},
                (
                    on_drive(
                        "1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA",
                        "ImageNet-Sketch.zip",
                        7_593_573_012,
                        "4d3ce6b82a7c48aabf14aeac105eb533e75707f152cc858f55bfc022031a72ed",
                    ),
                    Remote(
                        "https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/"
                        "ImageNet-Sketch.zip"
                    ),
                    collection("imagenet-sketch.zip"),
                ),
            ),
        ),
    )
)
