"""EuroSAT (Helber et al., 2019): satellite photos of 10 kinds of land."""

from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}

DATASETS.register("eurosat")(
    Benchmark(
        name="eurosat",
        folder="eurosat",
        images="2750",
        labels=split_file("split_zhou_EuroSAT.json", "541503a7"),
        template="a centered satellite photo of {}.",
        classes=10,
        counts={"train": 13_500, "val": 5_400, "test": 8_100},
        source="https://github.com/phelber/EuroSAT (EuroSAT.zip, the RGB images)",
        first_new="Pasture Land",
        class_of=lambda path: NAMES.get(path.split("/")[0], ""),
        mirrors={
            "2750": "mkdir -p eurosat && mv 2750 eurosat/",
            "eurosat/EuroSAT_RGB": "ln -s EuroSAT_RGB eurosat/2750",
            "EuroSAT_RGB": "mkdir -p eurosat && mv EuroSAT_RGB eurosat/2750",
        },
    )
)
