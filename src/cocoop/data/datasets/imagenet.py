"""ImageNet (Deng et al., 2009): 1000 classes; its validation images are the test list, and there is no other.

Nothing is ever selected on them: there is no "val" list, and the last step is what is tested.
"""

from cocoop.data.benchmark.imagenet_archives import BY_HAND
from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.benchmark.wordnet import wnid_folders
from cocoop.data.datasets import DATASETS

DATASETS.register("imagenet")(
    Benchmark(
        name="imagenet",
        folder="imagenet",
        images="images",
        labels=wnid_folders(train="train", test="val"),
        template="a photo of a {}.",
        classes=1_000,
        counts={"train": 1_281_167, "test": 50_000},
        source="https://image-net.org (ILSVRC 2012, with an account)",
        mirrors={
            "imagenet/train": "mkdir -p imagenet/images && mv imagenet/train imagenet/val imagenet/images/",
            "imagenet/ILSVRC/Data/CLS-LOC": "ln -s ILSVRC/Data/CLS-LOC imagenet/images",
            "ILSVRC/Data/CLS-LOC": "mkdir -p imagenet && ln -s ../ILSVRC/Data/CLS-LOC imagenet/images",
            "imagenet/images/val/ILSVRC2012_val_00000001.JPEG": (
                "sort the validation images into one folder a WordNet id, as valprep.sh of "
                "github.com/soumith/imagenetloader.torch does"
            ),
        },
        terms="for non-commercial research, as agreed with image-net.org",
        by_hand=BY_HAND,
    )
)
