"""UCF101 (Soomro et al., 2012): middle frames of videos of 101 actions."""

from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("ucf101")(
    Benchmark(
        name="ucf101",
        folder="ucf101",
        images="UCF-101-midframes",
        labels=split_file("split_zhou_UCF101.json", "d78cb834"),
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
    )
)
