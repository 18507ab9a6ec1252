"""UCF101 (Soomro et al., 2012): middle frames of videos of 101 actions."""

from cocoop.data.benchmark.remote import Download, collection, on_drive
from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("ucf101")(
    Benchmark(
        name="ucf101",
        folder="ucf101",
        images="UCF-101-midframes",
        labels=split_file("split_zhou_UCF101.json", "d78cb834", drive="1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"),
        template="a photo of a person doing {}.",
        classes=101,
        counts={"train": 7_639, "val": 1_898, "test": 3_783},
        source="DATASETS.md of github.com/KaiyangZhou/CoOp links the frames (UCF-101-midframes.zip)",
        first_new="Lunges",
        class_of=lambda path: path.split("/")[0],
        mirrors={
            "UCF-101-midframes": "mkdir -p ucf101 && mv UCF-101-midframes ucf101/",
            "UCF-101": "these are the videos; the benchmark uses one frame of each, in UCF-101-midframes.zip",
            "ucf101/UCF-101": (
                "these are the videos; the benchmark uses one frame of each, in UCF-101-midframes.zip"
            ),
        },
        terms="for research; none is stated",
        downloads=(
            Download(
                {"UCF-101-midframes": "UCF-101-midframes"},
                (
                    collection(
                        "ucf101.zip",
                        140_164_538,
                        "2fe1bd40e64408d02ff173badf744da557033ae6c75dd4ea51519366551f3ae6",
                    ),
                    on_drive("10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O", "UCF-101-midframes.zip"),
                ),
            ),
        ),
    )
)
