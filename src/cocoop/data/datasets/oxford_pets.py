"""OxfordPets (Parkhi et al., 2012): 37 breeds of cats and dogs."""

from pathlib import PurePosixPath

from cocoop.data.benchmark.remote import Download, Remote, collection
from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS


def _breed(path: str) -> str:
    return PurePosixPath(path).stem.rpartition("_")[0].lower()


DATASETS.register("oxford_pets")(
    Benchmark(
        name="oxford_pets",
        folder="oxford_pets",
        images="images",
        labels=split_file(
            "split_zhou_OxfordPets.json",
            "d7f3ffe65b3919f95132e51422894ae18686b83c331fd8c0adcdc3dc2de6301e",
            drive="1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs",
        ),
        template="a photo of a {}, a type of pet.",
        classes=37,
        counts={"train": 2_944, "val": 736, "test": 3_669},
        source="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        first_new="leonberger",
        class_of=_breed,
        mirrors={"oxford-iiit-pet/images": "ln -s oxford-iiit-pet oxford_pets"},
        terms="CC BY-SA 4.0",
        downloads=(
            Download(
                {"images": "images"},
                (
                    Remote(
                        "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
                        791_918_971,
                        "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
                    ),
                    collection("oxford_pets.zip"),
                ),
            ),
        ),
    )
)
