"""EuroSAT (Helber et al., 2019): satellite photos of 10 kinds of land."""

from cocoop.data.benchmark.remote import Download, Remote
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
        labels=split_file(
            "split_zhou_EuroSAT.json",
            "541503a77d0b26b735d85ec7a3e672804fe0aa466c2e5f07da772cc6c0af8ad2",
            drive="1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o",
        ),
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
        terms="MIT",
        downloads=(
            Download(
                {"2750": "2750", "EuroSAT_RGB": "2750"},
                (
                    Remote(
                        "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
                        "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                        94_280_567,
                        "8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd",
                    ),
                    Remote(
                        "https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip?download=1",
                        94_658_721,
                        md5="f46e308c4d50d4bf32fedad2d3d62f3b",
                    ),
                ),
            ),
        ),
    )
)
