"""Food101 (Bossard et al., 2014): 101 dishes."""

from cocoop.data.benchmark.remote import Download, Remote, collection
from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("food101")(
    Benchmark(
        name="food101",
        folder="food-101",
        images="images",
        labels=split_file("split_zhou_Food101.json", drive="1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),
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
        terms="for research (license_agreement.txt in the archive)",
        downloads=(
            Download(
                {"images": "images"},
                (
                    Remote(
                        "https://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
                        4_996_278_331,
                        "d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4",
                    ),
                    collection("food101.zip"),
                ),
            ),
        ),
    )
)
