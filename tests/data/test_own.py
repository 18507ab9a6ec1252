"""A person's own data: every layout that is read, and every way it can be wrong."""

import json
import os
import random
import unicodedata
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

import cocoop
from cocoop import CocoopError, UsageError, open_dataset
from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.features import ImageEncoder
from cocoop.data.benchmark.check import check
from cocoop.data.dataset import Item
from cocoop.data.decode import decode_photo, open_image
from cocoop.data.export import export
from cocoop.data.own import hub
from cocoop.data.own.names import read_names
from cocoop.data.own.reading import Row
from cocoop.data.own.rows import hold_out, to_splits
from cocoop.data.storage import read_bytes
from cocoop.data.verify import examine


def paint(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), colour).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of five images."""
    for name in ("cat", "dog"):
        for index in range(5):
            paint(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


def counts(dataset: cocoop.Dataset) -> dict[str, dict[str, int]]:
    return {split: dict(Counter(item.name for item in items)) for split, items in dataset.splits.items()}


def test_a_folder_per_class(photos: Path) -> None:
    dataset = open_dataset(str(photos))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.template == "a photo of a {}."
    assert counts(dataset) == {"train": {"cat": 3, "dog": 3}, "val": {}, "test": {"cat": 2, "dog": 2}}
    assert not {item.path for item in dataset.items("train")} & {item.path for item in dataset.items("test")}
    assert open_dataset(f"{photos}/").splits == dataset.splits
    assert all((dataset.root / item.path).is_file() for item in dataset.items("train"))


def test_an_image_more_in_one_class_moves_nothing_in_the_others(photos: Path) -> None:
    before = open_dataset(str(photos))
    paint(photos / "dog" / "9.png")
    after = open_dataset(str(photos))
    cats = [[item for item in each.items("test") if item.name == "cat"] for each in (before, after)]
    assert cats[0] == cats[1]


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        (("train", "val", "test"), {"train": 4, "val": 4, "test": 4}),
        (("Training", "validation", "TEST"), {"train": 4, "val": 4, "test": 4}),
        (("train", "valid"), {"train": 4, "val": 0, "test": 4}),
        (("train", "test", "sketches"), {"train": 4, "val": 0, "test": 4, "sketches": 4}),
        (("train",), {"train": 2, "val": 0, "test": 2}),
    ],
)
def test_a_split_made_beforehand(tmp_path: Path, parts: tuple[str, ...], sizes: dict[str, int]) -> None:
    for part in parts:
        for name in ("cat", "dog"):
            for index in range(2):
                paint(tmp_path / part / name / f"{index}.png")
    dataset = open_dataset(str(tmp_path))
    assert {split: len(items) for split, items in dataset.splits.items()} == sizes
    assert dataset.class_names == ("cat", "dog")


def test_classes_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        paint(tmp_path / name / "1.png")
        paint(tmp_path / name / "2.png")
    assert open_dataset(str(tmp_path)).class_names == ("bus", "train")


def test_nested_folders_and_a_folder_around_all(tmp_path: Path) -> None:
    for path in ("cat/a/1.png", "cat/b/c/2.png", "dog/1.png", "dog/deep/2.PNG"):
        paint(tmp_path / "data" / "unpacked" / path)
    dataset = open_dataset(str(tmp_path / "data"))
    assert dataset.class_names == ("cat", "dog")
    paths = sorted(item.path for split in dataset.splits.values() for item in split)
    assert paths == [
        "unpacked/cat/a/1.png",
        "unpacked/cat/b/c/2.png",
        "unpacked/dog/1.png",
        "unpacked/dog/deep/2.PNG",
    ]


def test_unicode_names_have_one_spelling(tmp_path: Path) -> None:
    names = ["crème brûlée", "寿司", "Äpfel"]
    for name in names:
        for index in range(2):
            paint(tmp_path / unicodedata.normalize("NFD", name) / f"ü {index}.png")
    assert set(open_dataset(str(tmp_path)).class_names) == set(names)


def test_what_is_no_image_is_passed_over_and_said(photos: Path) -> None:
    (photos / "cat" / "notes.txt").write_text("x")
    (photos / "README").write_text("x")
    (photos / "cat" / ".DS_Store").write_text("x")
    (photos / ".git").mkdir()
    dataset = open_dataset(str(photos))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.note == "passed over 2 file(s) that are no images: README, cat/notes.txt"
    assert open_dataset("emoji/food").note == ""


def test_links_within_the_folder_are_followed(photos: Path) -> None:
    (photos / "wolf").symlink_to(photos / "dog", target_is_directory=True)
    (photos / "cat" / "link.png").symlink_to(photos / "cat" / "0.png")
    (photos / "cat" / "round").symlink_to(photos / "cat", target_is_directory=True)
    counted = Counter(item.name for items in open_dataset(str(photos)).splits.values() for item in items)
    assert counted == {"cat": 6, "dog": 5, "wolf": 5}


@pytest.mark.parametrize("kind", ["file", "folder", "broken"])
def test_links_out_of_the_folder_are_refused(photos: Path, tmp_path: Path, kind: str) -> None:
    outside = paint(tmp_path / "outside" / "1.png")
    target = {"file": outside, "folder": outside.parent, "broken": photos / "gone"}[kind]
    (photos / "cat" / "link.png").symlink_to(target)
    with pytest.raises(CocoopError, match=r"link\.png is a link (that leads out|to .* does not exist)"):
        open_dataset(str(photos))


def _empty(folder: Path) -> None:
    folder.mkdir()


def _loose(folder: Path) -> None:
    paint(folder / "1.png")


def _others(folder: Path) -> None:
    folder.mkdir()
    (folder / "1.cr2").write_text("x")


def _one_class(folder: Path) -> None:
    paint(folder / "cat" / "1.png")


def _one_class_nested(folder: Path) -> None:
    paint(folder / "train" / "cat" / "1.png")
    paint(folder / "test" / "cat" / "1.png")


def _empty_class(folder: Path) -> None:
    paint(folder / "cat" / "1.png")
    (folder / "dog").mkdir()
    (folder / "dog" / "notes.txt").write_text("x")


def _untrained(folder: Path) -> None:
    for part, names in {"train": "ab", "test": "abc"}.items():
        for name in names:
            paint(folder / part / name / "1.png")


def _same_name(folder: Path) -> None:
    paint(folder / "red_apple" / "1.png")
    paint(folder / "Red apple" / "1.png")


def _nameless(folder: Path) -> None:
    paint(folder / "_" / "1.png")
    paint(folder / "b" / "1.png")


def _not_utf8(folder: Path) -> None:
    for name in "ab":
        paint(folder / name / "1.png")
    os.rename(folder / "a" / "1.png", os.fsencode(folder / "a") + b"/\xff.png")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_empty, "there are no images in"),
        (_loose, "1 images lie directly in .* one folder for each class"),
        (_others, r"there are \.cr2 files"),
        (_one_class, r"(one class only \('cat'\)|lie directly)"),
        (_one_class_nested, r"one class only \('cat'\)"),
        (_empty_class, "class folder .*dog holds no images"),
        (_untrained, "no training images of 'c'"),
        (_same_name, r"one class only \('Red apple'\)"),
        (_nameless, "a class without a name"),
        (_not_utf8, "not valid UTF-8"),
    ],
)
def test_folders_that_are_wrong(tmp_path: Path, make: object, words: str) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(CocoopError, match=words):
        open_dataset(str(tmp_path / "data"))


def test_names_from_a_file(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"cat": "tabby cat", "dog": "Ibizan hound", "x": "more"}')
    (tmp_path / "names.csv").write_text('cat,tabby cat\ndog,"Ibizan hound"\n')
    for file in ("names.json", "names.csv"):
        assert open_dataset(str(photos), names=tmp_path / file).class_names == ("Ibizan hound", "tabby cat")
    (tmp_path / "names.json").write_text('{"cat": "tabby cat"}')
    with pytest.raises(CocoopError, match="no name for the class 'dog'"):
        open_dataset(str(photos), names=tmp_path / "names.json")
    with pytest.raises(UsageError, match="for own data"):
        open_dataset("emoji/food", names=tmp_path / "names.json")


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1}'])
def test_bad_names_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(CocoopError, match="no file of names"):
        read_names(tmp_path / "names.json")
    with pytest.raises(UsageError, match=r"gone\.json cannot be read"):
        read_names(tmp_path / "gone.json")


FRAME = pd.DataFrame(
    {
        "path": [f"{name}/{index}.png" for name in ("cat", "dog") for index in range(5)],
        "label": ["tabby"] * 5 + ["hound"] * 5,
        "split": (["train"] * 3 + ["val", "test"]) * 2,
        "more": 1,
    }
)
WRITERS = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "parquet": lambda frame, path: frame.to_parquet(path),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_tables(photos: Path, kind: str) -> None:
    table = photos / f"table.{kind}"
    WRITERS[kind](FRAME, table)
    dataset = open_dataset(str(table))
    assert dataset.class_names == ("hound", "tabby")
    assert {split: len(items) for split, items in dataset.splits.items()} == {"train": 6, "val": 2, "test": 2}
    WRITERS[kind](FRAME[["path", "label"]], table)
    assert {split: len(items) for split, items in open_dataset(str(table)).splits.items()} == {
        "train": 6,
        "val": 0,
        "test": 4,
    }


def test_absolute_paths_within_the_folder_are_fine(photos: Path) -> None:
    FRAME.assign(path=[str(photos / path) for path in FRAME["path"]]).to_csv(photos / "t.csv", index=False)
    assert open_dataset(str(photos / "t.csv")).items("train")[0].path == "cat/0.png"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "cat"}, "one class only"),
        ({"label": ["", *FRAME["label"][1:]]}, "row 1 .* has no label"),
        ({"path": ["", *FRAME["path"][1:]]}, "row 1 .* has no path"),
        ({"split": "trial"}, "split 'trial'; known are train"),
        ({"split": ["", *FRAME["split"][1:]]}, "for some images"),
        ({"path": ["cat/gone.png", *FRAME["path"][1:]]}, r"1 images .* are missing: cat/gone\.png"),
        ({"path": ["../secret.png", *FRAME["path"][1:]]}, "leaves the table's folder"),
        ({"path": ["/etc/passwd", *FRAME["path"][1:]]}, "leaves the table's folder"),
        ({"path": ["cat/1.png", *FRAME["path"][1:]]}, r"more than once: 'cat/1\.png'"),
        ({"path": None}, "lacks the column 'path'; it has 'label'"),
    ],
)
def test_tables_that_are_wrong(photos: Path, change: dict, words: str) -> None:
    frame = FRAME.drop(columns="path") if change == {"path": None} else FRAME.assign(**change)
    frame.to_csv(photos / "t.csv", index=False)
    with pytest.raises(CocoopError, match=words):
        open_dataset(str(photos / "t.csv"))


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00{{"])
def test_damaged_tables(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CocoopError, match=r"cannot be read|lacks the column"):
        open_dataset(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./nothing", "no folder or table nothing"),
        ("emoji/fod", "Did you mean 'emoji/food'"),
        ("photos.zip", "is no folder and no table"),
    ],
)
def test_names_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.zip").write_text("x")
    with pytest.raises(UsageError, match=words):
        open_dataset(name)


def test_registered_names_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for index in range(2):
        paint(tmp_path / "emoji" / "food" / "a" / f"{index}.png")
        paint(tmp_path / "emoji" / "food" / "b" / f"{index}.png")
    assert len(open_dataset("emoji/food").class_names) == 88
    assert open_dataset("./emoji/food").class_names == ("a", "b")


def test_holding_out_is_of_every_class_and_seeded() -> None:
    items = [Item(f"{name}{index}", label, name) for label, name in enumerate("abc") for index in range(10)]
    kept, held = hold_out([*items, Item("d", 3, "d")], 0.3, random.Random(0))
    assert Counter(item.name for item in held) == {"a": 3, "b": 3, "c": 3}
    assert Counter(item.name for item in kept) == {"a": 7, "b": 7, "c": 7, "d": 1}
    assert hold_out(items, 0.3, random.Random(0))[1] == hold_out(items, 0.3, random.Random(0))[1]
    assert hold_out(items, 0.3, random.Random(0))[1] != hold_out(items, 0.3, random.Random(1))[1]
    assert to_splits([Row(item.path, item.name) for item in reversed(items)], "x")["test"] == tuple(
        hold_out(items, 0.3, random.Random(0))[1]
    )


@pytest.mark.parametrize("split", [False, True])
def test_a_dataset_saved_to_disk(photos: Path, tmp_path: Path, split: bool) -> None:
    import datasets

    files = [str(photos / path) for path in FRAME["path"]]
    features = datasets.Features(
        {"photo": datasets.Image(), "kind": datasets.ClassLabel(names=["tabby", "hound"])}
    )
    whole = datasets.Dataset.from_dict({"photo": files, "kind": [0] * 5 + [1] * 5}, features=features)
    saved = datasets.DatasetDict({"train": whole, "validation": whole}) if split else whole
    saved.save_to_disk(tmp_path / "saved")
    dataset = open_dataset(str(tmp_path / "saved"))
    assert dataset.class_names == ("hound", "tabby")
    assert len(dataset.items("train")) == (10 if split else 6)
    assert len(dataset.items("test")) == (10 if split else 4)
    item = dataset.items("test")[0]
    assert read_bytes(dataset.root, item.path) == (photos / "cat" / "0.png").read_bytes()
    assert open_image(dataset.root, item.path, dataset.decode).size == (12, 10)
    assert check(str(tmp_path / "saved"), read=True).usable
    assert sum(export(dataset, tmp_path / "out").values()) == (20 if split else 10)


def test_images_of_a_saved_dataset_are_read_once(
    photos: Path, tmp_path: Path, toy: cocoop.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    pictures = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in range(0, 200, 20)]
    rows = {"image": pictures, "label": FRAME["label"].tolist()}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    for file in (tmp_path / "saved").glob("*.arrow"):
        os.utime(file, (1e9, 1e9))
    encoder, cache = ImageEncoder(toy, FeatureCache(tmp_path / "cache"), decode_photo), []
    for _ in range(2):
        dataset = open_dataset(str(tmp_path / "saved"))
        cache.append(encoder.test(dataset.root, dataset.items("train")))
        monkeypatch.setattr(hub.Column, "read", lambda column, path: pytest.fail("read again"))
    assert torch.equal(*cache)


def test_images_beside_a_saved_dataset_are_watched(photos: Path, tmp_path: Path) -> None:
    """A cell may hold the path of a file instead of its bytes."""
    import datasets

    files = [str(photos / path) for path in FRAME["path"]]
    table = datasets.Dataset.from_dict({"image": files, "label": FRAME["label"].tolist()})
    column, found = hub._open(table.cast_column("image", datasets.Image()), "pets")
    rows = found.rows
    (photos / "cat" / "1.png").unlink()
    os.utime(photos / "cat" / "2.png", (1e9, 1e9))
    assert column.read(rows[0].path) == (photos / "cat" / "0.png").read_bytes()
    assert column.size(rows[0].path) == len(column.read(rows[0].path))
    assert "2.png" in column.stamp(rows[2].path)
    assert [each.problem for each in examine(column, [Item(rows[1].path, 0, "a")])] == ["missing"]


def test_rows_without_an_image_or_a_label_are_passed_over_and_counted() -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    one = Image.new("RGB", (8, 8))
    rows = {"image": [one, None, one], "label": ["cat", "dog", None]}
    column, found = hub._open(datasets.Dataset.from_dict(rows, features=features), "pets")
    assert found.rows == [Row("all/0000000", "cat")]
    assert found.warnings == ("passed over 1 rows without an image", "passed over 1 rows without a label")
    assert open_image(column, found.rows[0].path).size == (8, 8)


def test_a_dataset_of_the_hub(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    files = [str(photos / path) for path in FRAME["path"]]
    whole = datasets.Dataset.from_dict({"image": files, "label": FRAME["label"].tolist()})
    whole = whole.cast_column("image", datasets.Image())
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: {"train": whole})
    assert open_dataset("hub:someone/pets").class_names == ("hound", "tabby")
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, config: {"train": whole.remove_columns("label")}
    )
    with pytest.raises(CocoopError, match="no column of labels; it has image"):
        open_dataset("hub:someone/pets")


def test_a_saved_dataset_writes_nowhere_else(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"image": [Image.new("RGB", (8, 8))] * 2, "label": [0, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "escape")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["../escape"]}')
    with pytest.raises(CocoopError, match=r"a split called '\.\./escape'"):
        open_dataset(str(tmp_path / "saved"))


def test_without_the_extra_the_hub_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'cocoop\[hub\]'"):
        hub.fetch("someone/pets")


def test_a_protocol_runs_on_a_folder(photos: Path, tmp_path: Path) -> None:
    for name in ("emu", "fox"):
        for index in range(3):
            paint(photos / name / f"{index}.png", "blue")
    named = {"methods": ["zeroshot", "cocoop"], "seeds": [0], "backbone": "toy", "folder": tmp_path / "runs"}
    records = cocoop.run("base-to-new", datasets=[str(photos)], overrides=["cocoop.epochs=1"], **named)
    assert [record.class_names for record in records if record.cell.testing.subset == "new"] == [
        ["emu", "fox"]
    ] * 2
    assert json.loads(json.dumps(records[0].cell.testing.dataset)) == str(photos)
