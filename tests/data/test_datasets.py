"""The contract of a dataset, over whatever is in the folder."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from cocoop.data import DATASETS, open_dataset
from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.decode import open_image
from cocoop.data.storage import read_bytes
from cocoop.errors import CocoopError, UsageError

EMBEDDED = [name for name in DATASETS.names() if not isinstance(DATASETS.get(name), Benchmark)]


@pytest.mark.parametrize("name", EMBEDDED)
def test_contract(name: str) -> None:
    dataset = open_dataset(name)
    assert dataset.name == name
    assert "{}" in dataset.template
    classes = len(dataset.class_names)
    assert classes == len(set(dataset.class_names))
    for split in ("train", "test"):
        items = dataset.items(split)
        assert set(Counter(item.label for item in items)) == set(range(classes)), f"{split} lacks a class"
        assert all(item.name == dataset.class_names[item.label] for item in items)
    assert not {item.path for item in dataset.items("train")} & {item.path for item in dataset.items("test")}
    image = open_image(dataset.root, dataset.items("test")[0].path)
    assert image.mode == "RGB"


def test_unknown_split() -> None:
    with pytest.raises(UsageError, match="Did you mean 'test'"):
        open_dataset("emoji/food").items("tset")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    name = "image.tiff" if mode == "CMYK" else "image.png"
    Image.new(mode, (8, 6)).save(tmp_path / name)
    assert open_image(tmp_path, name).mode == "RGB"


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 20])
def test_unreadable_images_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(CocoopError, match=r"cannot read the image bad\.png"):
        open_image(tmp_path, "bad.png")


def test_missing_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(CocoopError, match=r"gone\.png"):
        open_image(tmp_path, "gone.png")
    with pytest.raises(CocoopError, match="gone"):
        open_image(open_dataset("emoji/food").root, "gone")


def test_archives_and_folders_read_alike(tmp_path: Path) -> None:
    dataset = open_dataset("emoji/food")
    path = dataset.items("test")[0].path
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(read_bytes(dataset.root, path))
    assert open_image(tmp_path, path).tobytes() == open_image(dataset.root, path).tobytes()
