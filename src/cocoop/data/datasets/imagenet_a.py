"""ImageNet-A (Hendrycks et al., 2021): natural adversarial images of 200 of ImageNet's classes.

For testing only. Candidates are these 200 names, labelled by the order of their WordNet ids.
"""

from cocoop.data.benchmark.remote import Download, Remote, collection
from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.benchmark.wordnet import wnid_folders
from cocoop.data.datasets import DATASETS

DATASETS.register("imagenet_a")(
    Benchmark(
        name="imagenet_a",
        folder="imagenet-adversarial",
        images="imagenet-a",
        labels=wnid_folders(test="."),
        template="a photo of a {}.",
        classes=200,
        counts={"test": 7_500},
        source="https://github.com/hendrycks/natural-adv-examples (imagenet-a.tar)",
        mirrors={"imagenet-a": "mkdir -p imagenet-adversarial && mv imagenet-a imagenet-adversarial/"},
        terms="MIT",
        downloads=(
            Download(
                {"imagenet-a": "imagenet-a"},
                (
                    Remote(
                        "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
                        687_552_512,
                        "3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
                    ),
                    collection("imagenet-adversarial.zip"),
                ),
            ),
        ),
    )
)
