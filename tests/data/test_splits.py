"""Splits and draws, held to the published ones."""

import hashlib
import json
import random
from pathlib import Path

import pytest

from cocoop.data.dataset import Item
from cocoop.data.splits import draw, few_shot, read_split, select, subset_labels
from cocoop.errors import CocoopError, UsageError

# images a class, in file order, of three published splits; a draw depends on nothing else
PETS_TRAIN = [80] * 7 + [77] + [80] * 3 + [74, 77] + [80] * 9 + [77] + [80] * 9 + [79] + [80] * 4
PETS_VAL = [20] * 7 + [19] + [20] * 3 + [19, 19] + [20] * 9 + [19] + [20] * 14
FOOD = ([500] * 101, [200] * 101)
LAYOUTS = {"dtd": ([60] * 47, [24] * 47), "pets": (PETS_TRAIN, PETS_VAL), "food": FOOD}

# SHA-256 of the JSON of [train indices, val indices] in the draws published with the benchmark
PUBLISHED = {
    ("dtd", 16, 1): "2d435edfa40cad0575f2cfb882a73f609dbfe931d3348feaffd83cfe7eb5f787",
    ("dtd", 4, 2): "4b5469c508d7bcd6a5e4bd104a247eafdec28467c36ff8bf66887b7c4c156d27",
    ("food", 1, 1): "2db430f437a93a4549c6040812926674e5fe67867b26e104197985f3e2038225",
    ("pets", 16, 1): "6ff4787651088b90f8a806c58888f45dde00f270a09c89ac83a24036a59fb83f",
    ("pets", 4, 2): "725277968dedc6837f8bfd13d26d5e540d2007fa605d4b328e017279cdd924c1",
}


def items(counts: list[int], labels: list[int] | None = None) -> tuple[Item, ...]:
    labels = labels or list(range(len(counts)))
    pairs = [(label, index) for label, count in zip(labels, counts, strict=True) for index in range(count)]
    return tuple(Item(f"{label}/{index}.jpg", label, f"class {label}") for label, index in pairs)


@pytest.mark.parametrize(("name", "shots", "seed"), PUBLISHED)
def test_published_draws(name: str, shots: int, seed: int) -> None:
    train, val = map(items, LAYOUTS[name])
    drawn = draw({"train": train, "val": val}, shots, seed)
    places = [[train.index(item) for item in drawn["train"]], [val.index(item) for item in drawn["val"]]]
    assert hashlib.sha256(json.dumps(places).encode()).hexdigest() == PUBLISHED[name, shots, seed]


def test_classes_are_drawn_in_order_of_appearance() -> None:
    backwards = items([5, 5, 5], labels=[2, 0, 1])
    assert [item.label for item in few_shot(backwards, 2, random.Random(1))] == [2, 2, 0, 0, 1, 1]
    assert few_shot(backwards, 2, random.Random(1)) != few_shot(items([5, 5, 5]), 2, random.Random(1))


def test_seed_zero_is_a_seed() -> None:
    drawn_from = items([30, 30])
    assert few_shot(drawn_from, 5, random.Random(0)) == few_shot(drawn_from, 5, random.Random(0))
    parts = {"train": drawn_from, "val": drawn_from}
    assert draw(parts, 5, 0) == draw(parts, 5, 0) != draw(parts, 5, 1)


def test_a_class_with_few_images_gives_all() -> None:
    assert few_shot(items([2, 20]), 16, random.Random(1))[:2] == items([2, 20])[:2]


def test_no_shots_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        few_shot(items([2]), 0, random.Random(1))


@pytest.mark.parametrize(("classes", "base"), [(37, 19), (47, 24), (101, 51), (397, 199), (10, 5), (1, 1)])
def test_base_is_the_first_half_rounded_up(classes: int, base: int) -> None:
    assert subset_labels(range(classes), "base") == tuple(range(base))
    assert subset_labels(range(classes), "new") == tuple(range(base, classes))
    assert subset_labels(range(classes), "all") == tuple(range(classes))


def test_labels_are_sorted_before_the_cut_and_restart_at_zero() -> None:
    drawn_from = items([1, 1, 1, 1, 1], labels=[4, 2, 0, 1, 3])
    new = select(drawn_from, subset_labels((item.label for item in drawn_from), "new"))
    assert {(item.name, item.label) for item in new} == {("class 3", 0), ("class 4", 1)}


def test_shots_do_not_depend_on_the_subset() -> None:
    everything = draw({"train": items([20] * 6), "val": ()}, 4, 1)["train"]
    base = select(everything, (0, 1, 2))
    assert base == everything[:12]


def test_names_with_dots_are_no_escape(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text('{"train": [["a..b/c..jpg", 0, "a"]], "val": [], "test": []}')
    assert read_split(path)["train"] == (Item("a..b/c..jpg", 0, "a"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not a split file"),
        ("{", "not a split file"),
        ('{"train": [["a.jpg", 0]]}', "not a split file"),
        ('{"train": [["a.jpg", 0, "a"]], "val": []}', "lacks .*test"),
        ('{"train": [["a.jpg", "x", "a"]], "val": [], "test": []}', "train 0 1"),
        ('{"training": [], "val": [], "test": []}', "lacks .*train.*it has 'training'"),
        ('{"train": [["../a.jpg", 0, "a"]], "val": [], "test": []}', "leaves"),
        ('{"train": [["a/../../b.jpg", 0, "a"]], "val": [], "test": []}', "leaves"),
        ('{"train": [["..\\\\a.jpg", 0, "a"]], "val": [], "test": []}', "leaves"),
        ('{"train": [["C:\\\\a.jpg", 0, "a"]], "val": [], "test": []}', "leaves"),
        ('{"train": [], "val": [], "test": []}', "no images"),
        ('{"train": [["a.jpg", 1, "a"], ["b.jpg", 2, "b"]], "val": [], "test": []}', "from 0.*0 is missing"),
        ('{"train": [["a.jpg", 0, "a"], ["b.jpg", 2, "b"]], "val": [], "test": []}', "1 is missing"),
        ('{"train": [["a.jpg", 0, "a"]], "val": [], "test": [["b.jpg", 0, "b"]]}', "two names, 'a' and 'b'"),
        ('{"train": [["a.jpg", 0, "a"]], "val": [], "test": [["b.jpg", 1, "b"]]}', "no images in 'train'"),
        ('{"train": [["/etc/a.jpg", 0, "a"]], "val": [], "test": []}', "leaves"),
    ],
)
def test_bad_split_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(CocoopError, match=message):
        read_split(path)
