"""Caltech101 (Fei-Fei et al., 2004): 100 kinds of objects; BACKGROUND_Google and Faces_easy are left out."""

from cocoop.data.benchmark.remote import Download, Remote, collection
from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

RENAMED = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}


def _class_of(path: str) -> str:
    folder = path.split("/")[0]
    return RENAMED.get(folder, folder)


DATASETS.register("caltech101")(
    Benchmark(
        name="caltech101",
        folder="caltech-101",
        images="101_ObjectCategories",
        labels=split_file(
            "split_zhou_Caltech101.json", "52ce8320", drive="1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"
        ),
        template="a photo of a {}.",
        classes=100,
        counts={"train": 4_128, "val": 1_649, "test": 2_465},
        source="https://data.caltech.edu/records/mzrjq-6wc02 (101_ObjectCategories.tar.gz inside)",
        first_new="ibis",
        class_of=_class_of,
        mirrors={
            "caltech101/101_ObjectCategories": "ln -s caltech101 caltech-101",
            "101_ObjectCategories": "mkdir -p caltech-101 && mv 101_ObjectCategories caltech-101/",
        },
        terms="CC BY 4.0",
        downloads=(
            Download(
                {"101_ObjectCategories": "101_ObjectCategories"},
                (
                    Remote(
                        "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip?download=1",
                        137_414_764,
                        "331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91",
                    ),
                    collection("caltech-101.zip"),
                ),
                within="101_ObjectCategories.tar.gz",
            ),
        ),
    )
)
