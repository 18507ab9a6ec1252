"""Flowers102 (Nilsback and Zisserman, 2008): 102 kinds of flowers; its lists are not in label order."""

from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("oxford_flowers")(
    Benchmark(
        name="oxford_flowers",
        folder="oxford_flowers",
        images="jpg",
        labels=split_file("split_zhou_OxfordFlowers.json", "2f50c42f"),
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
    )
)
