"""Food101 (Bossard et al., 2014): 101 dishes."""

from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("food101")(
    Benchmark(
        name="food101",
        folder="food-101",
        images="images",
        labels=split_file("split_zhou_Food101.json"),
        template="a photo of {}, a type of food.",
        classes=101,
        counts={"train": 50_500, "val": 20_200, "test": 30_300},
        source="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/ (food-101.tar.gz)",
        first_new="guacamole",
        class_of=lambda path: path.split("/")[0],
        mirrors={
            "food101/images": "ln -s food101 food-101",
            "food-101/food-101/images": "ln -s food-101/images food-101/images",
        },
    )
)
