"""ImageNet-R (Hendrycks et al., 2021): renditions of 200 of ImageNet's classes.

For testing only. Candidates are these 200 names, labelled by the order of their WordNet ids.
"""

from cocoop.data.benchmark.remote import Download, Remote, collection
from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.benchmark.wordnet import wnid_folders
from cocoop.data.datasets import DATASETS

DATASETS.register("imagenet_r")(
    Benchmark(
        name="imagenet_r",
        folder="imagenet-rendition",
        images="imagenet-r",
        labels=wnid_folders(test="."),
        template="a photo of a {}.",
        classes=200,
        counts={"test": 30_000},
        source="https://github.com/hendrycks/imagenet-r (imagenet-r.tar)",
        mirrors={"imagenet-r": "mkdir -p imagenet-rendition && mv imagenet-r imagenet-rendition/"},
        terms="MIT",
        downloads=(
            Download(
                {"imagenet-r": "imagenet-r"},
                (
                    Remote(
                        "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
                        2_191_079_936,
                        "18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
                    ),
                    collection("imagenet-rendition.zip"),
                ),
            ),
        ),
    )
)
