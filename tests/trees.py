"""Dataset trees in the benchmark's layouts, made from class lists; every image is one tiny JPEG, linked."""

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.datasets import DATASETS
from cocoop.data.datasets.eurosat import NAMES as EUROSAT_NAMES

# what images of a class are filed under, in label order; the real lists, where names come from them
FOLDERS: dict[str, list[str]] = json.loads((Path(__file__).parent / "class_folders.json").read_text())

# how the images of a class are called; where the path says the class, by its folder or stem
PATHS: dict[str, Callable[[int, str, int], str]] = {
    "caltech101": lambda label, name, index: f"{FOLDERS['caltech101'][label]}/image_{index:04}.jpg",
    "oxford_pets": lambda label, name, index: f"{FOLDERS['oxford_pets'][label]}_{index}.jpg",
    "stanford_cars": lambda label, name, index: f"cars_train/{1000 * label + index:06}.jpg",
    "oxford_flowers": lambda label, name, index: f"image_{1000 * label + index:06}.jpg",
    "food101": lambda label, name, index: f"{name}/{index}.jpg",
    "fgvc_aircraft": lambda label, name, index: f"{1000 * label + index:07}.jpg",
    "sun397": lambda label, name, index: f"{'/'.join(['x', *reversed(name.split())])}/sun_{index}.jpg",
    "dtd": lambda label, name, index: f"{name}/{name}_{index:04}.jpg",
    "eurosat": lambda label, name, index: f"{list(EUROSAT_NAMES)[label]}/{label}_{index}.jpg",
    "ucf101": lambda label, name, index: f"{name}/v_{name.replace('_', '')}_g{index:02}_c01.jpg",
}


def spec(name: str) -> Benchmark:
    found = DATASETS.get(name)
    assert isinstance(found, Benchmark)
    return found


def class_names(name: str) -> list[str]:
    """Names in label order: the real ones where they are few, else made up around the first new class."""
    renamed = spec("caltech101").class_of
    assert renamed
    real = {
        "oxford_pets": [folder.lower() for folder in FOLDERS["oxford_pets"]],
        "dtd": FOLDERS["dtd"],
        "caltech101": [renamed(f"{folder}/x.jpg") for folder in FOLDERS["caltech101"]],
        "ucf101": FOLDERS["ucf101"],
        "eurosat": list(EUROSAT_NAMES.values()),
    }
    if name in real:
        return real[name]
    classes, first_new = spec(name).classes, spec(name).first_new
    names = [f"class_{label}" for label in range(classes)]
    names[(classes + 1) // 2] = first_new
    return names


def make_tree(
    root: Path,
    name: str,
    counts: dict[str, int] | None = None,
    order: Callable[[list], list] = lambda rows: rows,
    classes: int | None = None,
) -> Path:
    """Write one of the ten datasets under `root` and return its folder.

    Args:
        counts: images of every split, dealt to the classes in turn; by default one a class and split.
        order: of the rows of each split.
        classes: only the first so many.
    """
    facts, names = spec(name), class_names(name)[:classes]
    rows: dict[str, list[tuple[str, int, str]]] = {}
    for place, split in enumerate(("train", "val", "test")):
        total = (counts or {}).get(split, len(names))
        dealt = [(index % len(names), 300 * place + index // len(names)) for index in range(total)]
        labels = sorted(dealt)
        rows[split] = order([(PATHS[name](y, names[y], i), y, names[y]) for y, i in labels])
    folder = root / facts.folder
    write_images(facts.image_folder(root), [path for part in rows.values() for path, _, _ in part])
    if name == "fgvc_aircraft":
        (folder / "variants.txt").write_text("".join(f"{each}\n" for each in names))
        for split, part in rows.items():
            lines = (f"{path.removesuffix('.jpg')} {each}\n" for path, _, each in part)
            (folder / f"images_variant_{split}.txt").write_text("".join(lines))
    else:
        (folder / facts.labels.files[0].name).write_text(json.dumps(rows))
    return folder


def make_imagenet(root: Path, name: str = "imagenet", wnids: int = 4, folder: str = "train") -> Path:
    """Write ImageNet or a variant: image k of wnid j is n0000000j_k.JPEG, in no order."""
    facts = spec(name)
    for label in range(wnids):
        part = f"{label}" if name == "imagenetv2" else f"n{label:08}"
        parts = ("train", "val") if name == "imagenet" else (".",)
        paths = [f"{top}/{part}/{index}.JPEG" for top in parts for index in (10, 2, 1)]
        write_images(facts.image_folder(root), paths)
    place = root / facts.folder
    (place / "classnames.txt").write_text("".join(f"n{label:08} thing {label}\n" for label in range(wnids)))
    return place


def write_images(folder: Path, paths: Sequence[str]) -> None:
    """Write a tiny JPEG at every path."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "teal").save(file, "JPEG")
    first = folder / paths[0]
    for path in map(folder.joinpath, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path == first:
            path.write_bytes(file.getvalue())
        else:
            os.link(first, path)
