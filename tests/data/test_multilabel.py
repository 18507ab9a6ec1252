"""Images of several classes or none: every way to write them, two readings where there are two, splits."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cocoop import CocoopError, Dataset, UsageError, open_dataset
from cocoop.data import Item
from cocoop.data.own.multilabel import few_shot, hold_out
from cocoop.data.own.reading import Reading

FILES = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"]
KINDS = [("cat", "dog"), ("cat",), ("dog",), (), ("cat",), ("cat", "dog")]
TRUTH = dict(zip(FILES, KINDS, strict=True))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paint("data", FILES)


def paint(folder: str, names: Sequence[str]) -> None:
    for seed, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def opened(source: str, **reading: str) -> Dataset:
    return open_dataset(source, reading=Reading(**reading), multilabel=True)


def table(name: str, labels: Sequence[object], **columns: Sequence[object]) -> str:
    frame = pd.DataFrame({"path": FILES, "label": labels, **columns})
    path = Path("data", name)
    if path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return str(path)


def hot(path: str, kinds: Sequence[Sequence[str]]) -> str:
    rows = [
        f"{file},{int('cat' in each)},{int('dog' in each)}" for file, each in zip(FILES, kinds, strict=True)
    ]
    Path(path).write_text("filename,cat,dog\n" + "\n".join(rows))
    return path


@pytest.mark.parametrize("sep", ["|", ";", ", "])
def test_texts_with_a_separator(sep: str) -> None:
    source = table("t.csv", [sep.join(each) for each in KINDS])
    assert opened(source, label_sep=sep.strip()).labels == TRUTH


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_lists_in_a_table(name: str) -> None:
    data = opened(table(name, [list(each) for each in KINDS]))
    assert data.labels == TRUTH
    assert data.class_names == ("cat", "dog")
    assert {item for items in data.splits.values() for item in items} == {
        Item(file, -1, "") for file in FILES
    }


def test_marks_in_a_column_a_class() -> None:
    data = opened(hot("data/_classes.csv", KINDS))
    assert data.labels == TRUTH
    assert "marked with a 1" in data.note


def test_the_tables_of_all_splits_are_read_alike() -> None:
    """One split may have an image of several classes, where the other has none such by chance."""
    for part in ("train", "valid"):
        paint(f"parts/{part}", FILES)
    hot("parts/train/_classes.csv", KINDS)
    hot("parts/valid/_classes.csv", [("cat",)] * 3 + [("dog",)] * 3)
    data = opened("parts")
    assert data.labels["train/a.png"] == ("cat", "dog")
    assert data.labels["valid/a.png"] == ("cat",)
    assert {split: len(items) for split, items in data.splits.items()} == {"train": 6, "val": 0, "test": 6}
    Path("parts/valid/_classes.csv").write_text("path,label\n" + "".join(f"{file},cat\n" for file in FILES))
    with pytest.raises(CocoopError, match="write their classes in different ways"):
        opened("parts")


def test_lists_of_class_labels_in_a_data_set() -> None:
    names = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"image": datasets.Image(), "labels": datasets.List(names)})
    rows = {
        "image": [f"data/{file}" for file in FILES] + ["data/a.png"],
        "labels": [[names.str2int(name) for name in each] for each in KINDS] + [None],
    }
    datasets.Dataset.from_dict(rows, features=features).save_to_disk("saved")
    data = opened("saved")
    assert [data.labels[f"all/{row:07}.png"] for row in range(6)] == KINDS
    assert len(data.labels) == 6  # no list is no label; an empty list is a label
    assert data.warnings == ("passed over 1 rows without a label",)


def test_texts_and_lists_of_texts_in_a_data_set() -> None:
    images = [f"data/{file}" for file in FILES]
    for column, kind, reading in (
        ([list(each) for each in KINDS], datasets.List(datasets.Value("string")), {}),
        (["|".join(each) for each in KINDS], datasets.Value("string"), {"label_sep": "|"}),
    ):
        features = datasets.Features({"image": datasets.Image(), "labels": kind})
        datasets.Dataset.from_dict({"image": images, "labels": column}, features=features).save_to_disk(
            "saved"
        )
        assert list(opened("saved", **reading).labels.values()) == KINDS


def test_lists_in_labels_json() -> None:
    labels = {file: [{"label": name} for name in each] for file, each in TRUTH.items()}
    Path("data/labels.json").write_text(json.dumps({"labels": labels}))
    assert opened("data").labels == TRUTH
    numbers = {file: [["cat", "dog"].index(name) for name in each] for file, each in TRUTH.items()}
    Path("data/labels.json").write_text(json.dumps({"classes": ["cat", "dog"], "labels": numbers}))
    assert opened("data").labels == TRUTH


def test_names_and_spellings_are_those_of_single_labels() -> None:
    source = table("t.csv", ["Cat|dog", "cat", "cat", "", "DOG", "dog|dog"])
    assert opened(source, label_sep="|").class_names == ("cat", "dog")
    Path("names.json").write_text(json.dumps({"0": "tabby cat", "1": "poodle"}))
    source = table("n.jsonl", [[0, 1], [0], [1], [], [0], [1]])
    data = open_dataset(source, names="names.json", multilabel=True)
    assert data.labels["a.png"] == ("poodle", "tabby cat")
    assert data.labels["d.png"] == ()


def test_single_labels_stay_single() -> None:
    one = ["cat", "dog", "cat", "dog", "cat", "dog"]
    for source in (table("t.csv", one), hot("data/hot.csv", [(name,) for name in one])):
        data = opened(source)
        assert not data.labels
        assert data == open_dataset(source)
        assert opened(source, labels="several").labels == {
            file: (name,) for file, name in zip(FILES, one, strict=True)
        }


def test_both_readings_are_shown() -> None:
    one = ["cat", "dog", "cat", "dog", "cat", "dog"]
    lists = table("t.jsonl", [[name] for name in one])
    with pytest.raises(
        CocoopError, match=r"two ways.*each of its lists has one.*--labels several.*--labels one"
    ):
        opened(lists)
    assert opened(lists, labels="one").splits == opened(table("t.csv", one)).splits
    none = hot("data/hot.csv", [("cat",), ("dog",), ("cat",), ("dog",), (), ("cat",)])
    with pytest.raises(CocoopError, match=r"two ways.*e\.png has none.*--labels several.*--labels one"):
        opened(none)
    assert opened(none, labels="several").labels["e.png"] == ()
    with pytest.raises(CocoopError, match=r"e\.png of .* has no class; with --labels one"):
        opened(none, labels="one")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            ["cat", "dog", "cat|dog", "cat", "dog", "cat"],
            r"'cat\|dog' as one class.*'cat', 'dog'.*--label-sep '\|'",
        ),
        (["cat;dog", "dog;owl", "cat;owl", "cat;dog", "dog;owl", "cat;owl"], "--label-sep ';'.*--labels one"),
        (["cat", "dog", "cat, dog", "cat", "dog", "cat"], "--label-sep ','"),
    ],
)
def test_a_text_that_looks_like_several_classes(labels: list[str], words: str) -> None:
    source = table("t.parquet", labels)
    with pytest.raises(CocoopError, match=f"(?s)can be read in two ways.*{words}"):
        opened(source)
    assert not opened(source, labels="one").labels


def test_names_with_commas_are_names() -> None:
    labels = ["crane, bird", "crane, machine", "parrot, bird"] * 2
    assert set(opened(table("t.parquet", labels)).class_names) == set(labels)


@pytest.mark.parametrize(
    ("name", "labels", "reading", "words"),
    [
        ("t.csv", ["cat||dog"] * 6, {"label_sep": "|"}, "row 1 .* class without a name"),
        ("t.jsonl", [["cat", ""]] * 6, {}, "row 1 .* class without a name"),
        ("t.jsonl", [["cat", ["dog"]]] * 6, {}, "list for a label"),
        ("t.jsonl", [{"cat": 1}] * 6, {}, "an object for a label"),
        ("t.jsonl", [["cat"], None, ["dog"], [], [], []], {}, "row 2 .* has no label"),
        ("t.csv", ["['cat', 'dog']"] * 6, {}, "list for a label.*--label-sep"),
        ("t.jsonl", [["cat", "dog"]] * 6, {"labels": "one"}, "a.png .* has several classes .*--labels one"),
    ],
)
def test_what_is_wrong_is_named(name: str, labels: list[object], reading: dict[str, str], words: str) -> None:
    with pytest.raises(CocoopError, match=words):
        opened(table(name, labels), **reading)


def test_options_that_do_not_go_together() -> None:
    text, lists = table("t.csv", ["cat", "dog"] * 3), table("t.jsonl", [["cat", "dog"]] * 6)
    for source, reading in (
        (lists, {"label_sep": "|"}),
        (hot("data/hot.csv", KINDS), {"label_sep": "|"}),
        (text, {"label_sep": ""}),
        (text, {"label_sep": "|", "labels": "one"}),
        (text, {"labels": "many"}),
    ):
        with pytest.raises(UsageError, match="--label"):
            opened(source, **reading)


def test_an_image_listed_twice() -> None:
    rows = [{"path": "a.png", "label": ["cat", "dog"]}, {"path": "a.png", "label": ["cat"]}]
    Path("data/t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(CocoopError, match=r"lists images more than once: 'a\.png'"):
        opened("data/t.jsonl")


def test_folders_and_a_table_of_several_classes_that_differ() -> None:
    paint("mixed/cat", FILES[:3])
    paint("mixed/dog", FILES[3:])
    files = [f"{'cat' if i < 3 else 'dog'}/{file}" for i, file in enumerate(FILES)]
    rows = [json.dumps({"file_name": file, "label": ["cat", "dog"]}) for file in files]
    Path("mixed/metadata.jsonl").write_text("\n".join(rows))
    with pytest.raises(
        CocoopError, match=r"two ways: by its folders, .* is 'cat'; by .* it is 'cat' and 'dog'"
    ):
        opened("mixed")


def test_where_one_class_is_needed_several_are_refused() -> None:
    source = table("t.jsonl", [list(each) for each in KINDS])
    with pytest.raises(UsageError, match=r"here an image must have one.*multilabel=True"):
        open_dataset(source)


def many(count: int = 200) -> tuple[list[Item], dict[str, tuple[str, ...]]]:
    """Images of classes of very different sizes; every class has two images or more."""
    rng = random.Random(0)
    items = [Item(f"{n}.png", -1, "") for n in range(count)]
    shares = {"sky": 0.6, "tree": 0.3, "dog": 0.1, "owl": 0.02}
    labels = {item.path: tuple(c for c, share in shares.items() if rng.random() < share) for item in items}
    return items, labels


def counts(items: Sequence[Item], labels: dict[str, tuple[str, ...]]) -> dict[str, int]:
    names = [name for item in items for name in labels[item.path]]
    return {name: names.count(name) for name in ("sky", "tree", "dog", "owl")}


def test_a_share_of_every_class_is_held_out() -> None:
    items, labels = many()
    kept, held = hold_out(items, labels, 0.3, random.Random(0))
    assert sorted(kept + held) == sorted(items)
    whole, out = counts(items, labels), counts(held, labels)
    for name, count in whole.items():
        assert abs(out[name] - 0.3 * count) <= max(2, 0.05 * count), name
    assert hold_out(items, labels, 0.3, random.Random(0)) == (kept, held)


def test_no_class_loses_all_its_images() -> None:
    items = [Item(f"{n}.png", -1, "") for n in range(3)]
    labels = {"0.png": ("a", "b"), "1.png": ("a", "c"), "2.png": ("b", "c")}
    for seed in range(20):
        kept, held = hold_out(items, labels, 0.9, random.Random(seed))
        assert {name for item in kept for name in labels[item.path]} == {"a", "b", "c"}
        assert len(kept) + len(held) == 3


def test_shots_are_drawn_until_every_class_has_them() -> None:
    items, labels = many()
    whole = counts(items, labels)
    for shots in (1, 4, 16):
        drawn = few_shot(items, labels, shots, random.Random(1))
        found = counts(drawn, labels)
        assert all(found[name] >= min(shots, count) for name, count in whole.items())
        assert sum(not labels[item.path] for item in drawn) == min(
            shots, sum(not each for each in labels.values())
        )
        assert len(drawn) <= 5 * shots
        assert drawn == few_shot(items, labels, shots, random.Random(1))
