"""FGVCAircraft (Maji et al., 2013): 100 variants of aircraft, split by the lists that come with it."""

from pathlib import Path

from cocoop.data.benchmark.remote import Download, Remote, collection
from cocoop.data.benchmark.spec import Benchmark, LabelFile, Labels, Splits
from cocoop.data.dataset import Item
from cocoop.data.datasets import DATASETS
from cocoop.errors import CocoopError
from cocoop.utils.files import numbered_lines, read_lines

_IN_ARCHIVE = "it is in data/ of fgvc-aircraft-2013b.tar.gz"
VARIANTS = LabelFile("variants.txt", _IN_ARCHIVE)
LISTS = {split: LabelFile(f"images_variant_{split}.txt", _IN_ARCHIVE) for split in ("train", "val", "test")}


def _read(folder: Path, images: Path) -> Splits:
    """Read lists of "0034309 A300B4" lines; labels follow the order of variants.txt."""
    labels = {name: label for label, name in enumerate(read_lines(VARIANTS.need(folder)))}
    return {split: tuple(_items(file.need(folder), labels)) for split, file in LISTS.items()}


def _items(path: Path, labels: dict[str, int]) -> list[Item]:
    items = []
    for number, line in numbered_lines(path).items():
        image, _, name = line.partition(" ")
        if name not in labels or not image.isalnum():
            raise CocoopError(f"{path}, line {number}: {line!r} is no image with one of the variants")
        items.append(Item(f"{image}.jpg", labels[name], name))
    return items


DATASETS.register("fgvc_aircraft")(
    Benchmark(
        name="fgvc_aircraft",
        folder="fgvc_aircraft",
        images="images",
        labels=Labels((VARIANTS, *LISTS.values()), _read),
        template="a photo of a {}, a type of aircraft.",
        classes=100,
        counts={"train": 3_334, "val": 3_333, "test": 3_333},
        source="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ (fgvc-aircraft-2013b.tar.gz)",
        first_new="Cessna 560",
        mirrors={
            "fgvc-aircraft-2013b/data": "ln -s fgvc-aircraft-2013b/data fgvc_aircraft",
            "fgvc_aircraft/data/images": "mv fgvc_aircraft/data/* fgvc_aircraft/",
        },
        terms="for non-commercial research",
        downloads=(
            Download(
                {name: name for name in ("images", VARIANTS.name, *(file.name for file in LISTS.values()))},
                (
                    Remote(
                        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/"
                        "fgvc-aircraft-2013b.tar.gz",
                        2_753_340_328,
                        "e4e323d410e29f0370c81eabdcbb0e2b813acea1de22891b70b58ff41bfc9834",
                    ),
                    collection("fgvc_aircraft.zip"),
                ),
            ),
        ),
    )
)
