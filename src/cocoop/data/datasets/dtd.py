"""Describable Textures (Cimpoi et al., 2014): 47 kinds of texture."""

from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("dtd")(
    Benchmark(
        name="dtd",
        folder="dtd",
        images="images",
        labels=split_file("split_zhou_DescribableTextures.json", "f26ebecc"),
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
    )
)
