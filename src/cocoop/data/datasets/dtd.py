"""Describable Textures (Cimpoi et al., 2014): 47 kinds of texture."""

from cocoop.data.benchmark.remote import Download, Remote, collection
from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("dtd")(
    Benchmark(
        name="dtd",
        folder="dtd",
        images="images",
        labels=split_file(
            "split_zhou_DescribableTextures.json",
            "f26ebeccd2b58e68d70f07a0dc39fe49bf7b69024bac34396b954dfd87969c38",
            drive="1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x",
        ),
        template="{} texture.",
        classes=47,
        counts={"train": 2_820, "val": 1_128, "test": 1_692},
        source="https://www.robots.ox.ac.uk/~vgg/data/dtd/ (dtd-r1.0.1.tar.gz)",
        first_new="matted",
        class_of=lambda path: path.split("/")[0],
        mirrors={
            "dtd/dtd/images": "ln -s dtd/images dtd/images",
            "dtd-r1.0.1/dtd/images": "mv dtd-r1.0.1/dtd dtd",
        },
        terms="for research",
        downloads=(
            Download(
                {"images": "images"},
                (
                    Remote(
                        "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
                        625_239_812,
                        "e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
                    ),
                    collection("dtd.zip"),
                ),
            ),
        ),
    )
)
