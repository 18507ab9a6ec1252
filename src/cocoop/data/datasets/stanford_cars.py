"""StanfordCars (Krause et al., 2013): 196 makes and models; names put the year first."""

from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("stanford_cars")(
    Benchmark(
        name="stanford_cars",
        folder="stanford_cars",
        images=".",
        labels=split_file("split_zhou_StanfordCars.json", "40acee7a"),
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
    )
)
