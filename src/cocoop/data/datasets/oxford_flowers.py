"""Flowers102 (Nilsback and Zisserman, 2008): 102 kinds of flowers; its lists are not in label order."""

from cocoop.data.benchmark.remote import Download, Remote, collection
from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("oxford_flowers")(
    Benchmark(
        name="oxford_flowers",
        folder="oxford_flowers",
        images="jpg",
        labels=split_file(
            "split_zhou_OxfordFlowers.json",
            "2f50c42fc1a17ca13c271cb4269b1347bdb43d2be672e34f74a4e4cbfbcca794",
            drive="1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT",
        ),
        template="a photo of a {}, a type of flower.",
        classes=102,
        counts={"train": 4_093, "val": 1_633, "test": 2_463},
        source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (102flowers.tgz)",
        first_new="wild pansy",
        mirrors={
            "flowers-102/jpg": "ln -s flowers-102 oxford_flowers",
            "oxford_flowers/102flowers/jpg": "ln -s 102flowers/jpg oxford_flowers/jpg",
            "jpg": "mkdir -p oxford_flowers && mv jpg oxford_flowers/",
        },
        terms="for research; none is stated",
        downloads=(
            Download(
                {"jpg": "jpg"},
                (
                    Remote(
                        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
                        344_862_509,
                        "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
                    ),
                    collection("oxford_flowers.zip"),
                ),
            ),
        ),
    )
)
