"""StanfordCars (Krause et al., 2013): 196 makes and models; names put the year first."""

from cocoop.data.benchmark.remote import Download, Remote, collection
from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("stanford_cars")(
    Benchmark(
        name="stanford_cars",
        folder="stanford_cars",
        images=".",
        labels=split_file(
            "split_zhou_StanfordCars.json", "40acee7a", drive="1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"
        ),
        template="a photo of a {}.",
        classes=196,
        counts={"train": 6_509, "val": 1_635, "test": 8_041},
        source="the original host is gone; a mirror with cars_train/ and cars_test/ of numbered images",
        first_new="2012 FIAT 500 Abarth",
        mirrors={
            "stanford_cars/cars_train/cars_train": (
                "mv stanford_cars/cars_train/cars_train/* stanford_cars/cars_train/ && "
                "mv stanford_cars/cars_test/cars_test/* stanford_cars/cars_test/"
            ),
            "stanford_cars/car_data": (
                "this copy is sorted into class folders under other file names; get one with "
                "cars_train/00001.jpg instead"
            ),
        },
        terms="for research",
        downloads=(
            Download(
                {"cars_train": "cars_train", "cars_test": "cars_test"},
                (
                    collection(
                        "stanford_cars.zip",
                        1_959_002_685,
                        "50812812f33534ef2906b992762f96e8a5bb57b0eedc53800e91b7ed599abf8e",
                    ),
                    (
                        Remote(
                            "http://ai.stanford.edu/~jkrause/car196/cars_train.tgz",
                            979_269_282,
                            "512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
                        ),
                        Remote(
                            "http://ai.stanford.edu/~jkrause/car196/cars_test.tgz",
                            977_350_468,
                            "bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
                        ),
                    ),
                ),
            ),
        ),
    )
)
