"""SUN397 (Xiao et al., 2010): 397 scenes; names are the folder path read backwards."""

from cocoop.data.benchmark.remote import Download, Remote
from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS


def _scene(path: str) -> str:
    """Name of the scene: "i/ice_skating_rink/outdoor/sun_1.jpg" is "outdoor ice_skating_rink"."""
    return " ".join(reversed(path.split("/")[1:-1]))


DATASETS.register("sun397")(
    Benchmark(
        name="sun397",
        folder="sun397",
        images="SUN397",
        labels=split_file("split_zhou_SUN397.json", drive="1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),
        template="a photo of a {}.",
        classes=397,
        counts={"train": 15_880, "val": 3_970, "test": 19_850},
        source="https://vision.princeton.edu/projects/2010/SUN/ (SUN397.tar.gz; the link may be dead)",
        first_new="outdoor ice_skating_rink",
        class_of=_scene,
        mirrors={
            "sun397/SUN397/SUN397": "mv sun397/SUN397/SUN397/* sun397/SUN397/",
            "SUN397/a": "mkdir -p sun397 && mv SUN397 sun397/",
        },
        terms="for research",
        downloads=(
            Download(
                {"SUN397": "SUN397"},
                tuple(
                    Remote(
                        f"{place}/SUN397.tar.gz",
                        39_077_296_924,
                        "f404130965a7ad77bed5ececc71e720ab50f3cc1e1bb257257610d38f3b928ec",
                    )
                    for place in (
                        "https://huggingface.co/zhengli97/SUN397_Dataset/resolve/main",
                        "https://vision.princeton.edu/projects/2010/SUN",
                    )
                ),
            ),
        ),
    )
)
