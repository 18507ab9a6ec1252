"""The fifteen datasets of the paper on trees in their layouts: names, order, halves, and what is refused."""

import json
import os
import random
from pathlib import Path

import pytest

import cocoop
from cocoop.data import Item, open_dataset
from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.benchmark.wordnet import list_class_images
from cocoop.data.datasets import DATASETS
from cocoop.data.splits import draw, select, subset_labels
from cocoop.errors import CocoopError, UsageError
from cocoop.experiments.protocols import PROTOCOLS
from cocoop.report.tables import notes as table_notes
from tests.trees import PATHS, class_names, make_imagenet, make_tree, spec, write_images

ON_DISK = [name for name in DATASETS.names() if isinstance(DATASETS.get(name), Benchmark)]
VARIANTS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")

# peers' zero-shot prompts, which the released implementation and Table 1 use
TEMPLATES = {
    "oxford_pets": "a photo of a {}, a type of pet.",
    "oxford_flowers": "a photo of a {}, a type of flower.",
    "fgvc_aircraft": "a photo of a {}, a type of aircraft.",
    "dtd": "{} texture.",
    "eurosat": "a centered satellite photo of {}.",
    "food101": "a photo of {}, a type of food.",
    "ucf101": "a photo of a person doing {}.",
}

# base and new classes, first new class
HALVES = {
    "caltech101": (50, 50, "ibis"),
    "oxford_pets": (19, 18, "leonberger"),
    "stanford_cars": (98, 98, "2012 FIAT 500 Abarth"),
    "oxford_flowers": (51, 51, "wild pansy"),
    "food101": (51, 50, "guacamole"),
    "fgvc_aircraft": (50, 50, "Cessna 560"),
    "sun397": (199, 198, "outdoor ice_skating_rink"),
    "dtd": (24, 23, "matted"),
    "eurosat": (5, 5, "Pasture Land"),
    "ucf101": (51, 50, "Lunges"),
}


def test_all_fifteen_are_here() -> None:
    assert set(ON_DISK) == {*HALVES, "imagenet", *VARIANTS}


@pytest.mark.parametrize("name", ON_DISK)
def test_specs(name: str) -> None:
    facts = spec(name)
    assert facts.name == name
    assert facts.template == TEMPLATES.get(name, "a photo of a {}.")
    assert facts.classes > 0
    assert set(facts.counts) == (
        {"test"} if name in VARIANTS else {"train", "test"} | ({"val"} & set(facts.counts))
    )
    assert ("val" in facts.counts) == (name in HALVES)


@pytest.mark.parametrize("name", HALVES)
def test_halves(name: str, tmp_path: Path) -> None:
    make_tree(tmp_path, name)
    dataset = open_dataset(name, tmp_path)
    names = dataset.class_names
    assert list(names) == class_names(name)
    base, new = (subset_labels(range(len(names)), half) for half in ("base", "new"))  # type: ignore[arg-type]
    assert (len(base), len(new), names[new[0]]) == HALVES[name]
    first = select(dataset.items("test"), new)[0]
    assert (first.label, first.name) == (0, HALVES[name][2])
    assert (dataset.root / first.path).is_file()


@pytest.mark.parametrize("name", ["oxford_flowers", "stanford_cars"])
def test_lists_keep_their_order(name: str, tmp_path: Path) -> None:
    def shuffled(rows: list) -> list:
        return random.Random(3).sample(rows, len(rows))

    make_tree(tmp_path, name, {"train": 3 * spec(name).classes}, shuffled)
    train = open_dataset(name, tmp_path).items("train")
    rows = json.loads((tmp_path / spec(name).folder / spec(name).labels.files[0].name).read_text())["train"]
    assert [list(item) for item in train] == rows
    shots = draw({"train": train}, 2, 1)["train"]
    appearance = list(dict.fromkeys(item.label for item in train))
    assert [item.label for item in shots[::2]] == appearance
    assert appearance != sorted(appearance)


def test_imagenet_is_read_by_sorted_names(tmp_path: Path) -> None:
    make_imagenet(tmp_path)
    dataset = open_dataset("imagenet", tmp_path)
    assert dataset.class_names == ("thing 0", "thing 1", "thing 2", "thing 3")
    assert [item.path for item in dataset.items("train")[:3]] == [
        f"train/n00000000/{index}.JPEG" for index in (1, 10, 2)
    ]
    assert dataset.items("test")[-1] == Item("val/n00000003/2.JPEG", 3, "thing 3")
    assert "val" not in dataset.splits, "its validation images are the test images"
    assert "own sample" in dataset.note
    assert draw(dataset.splits, 2, 1)["val"] == ()


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_for_testing_only(name: str, tmp_path: Path) -> None:
    make_imagenet(tmp_path, name)
    dataset = open_dataset(name, tmp_path)
    assert dataset.class_names == ("thing 0", "thing 1", "thing 2", "thing 3")
    assert len(dataset.items("test")) == 12
    assert {(item.label, item.name) for item in dataset.items("test")} == {
        (k, f"thing {k}") for k in range(4)
    }
    assert all((dataset.root / item.path).is_file() for item in dataset.items("test"))
    with pytest.raises(UsageError, match="for testing only"):
        dataset.items("train")
    with pytest.raises(UsageError, match="for testing only"):
        cocoop.run("base-to-new", datasets=[name], backbone="toy", root=tmp_path, folder=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_results_on_imagenet_say_that_the_shots_are_our_own(tmp_path: Path) -> None:
    make_imagenet(tmp_path)
    run = {
        "datasets": ["imagenet"],
        "seeds": [0],
        "shots": 1,
        "backbone": "toy",
        "methods": ["zeroshot", "coop"],
    }
    run |= {"root": tmp_path, "folder": tmp_path / "runs", "overrides": ["coop.epochs=1"]}
    records = cocoop.run("base-to-new", **run)  # type: ignore[arg-type]
    notes = {record.cell.training.method: record.note for record in records}
    assert "own sample" in notes["coop"]
    assert not notes["zeroshot"]
    assert any(
        "own sample" in line
        for line in table_notes.notes(PROTOCOLS.get("base-to-new").table(records), records)
    )


def test_200_way_variants_number_their_own_folders(tmp_path: Path) -> None:
    folder = make_imagenet(tmp_path, "imagenet_a", wnids=2)
    (folder / "classnames.txt").write_text("n00000000 thing 0\nn00000001 thing 1\nn00000002 thing 2\n")
    (folder / "imagenet-a" / "README.txt").write_text("not a folder")
    (folder / "imagenet-a" / "n00000000" / ".hidden.jpg").write_text("")
    (folder / "imagenet-a" / "n00000000").rename(folder / "imagenet-a" / "n00000002")
    dataset = open_dataset("imagenet_a", tmp_path)
    assert dataset.class_names == ("thing 1", "thing 2")
    assert len(dataset.items("test")) == 6


def test_the_class_names_of_imagenet_serve_its_variants(tmp_path: Path) -> None:
    make_imagenet(tmp_path)
    folder = make_imagenet(tmp_path, "imagenet_r")
    (folder / "classnames.txt").unlink()
    assert open_dataset("imagenet_r", tmp_path).class_names[3] == "thing 3"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("imagenet", "n00000000 thing 0\n", "no line for the folder n00000001"),
        ("imagenet", "n00000000\n", "line 1 is not"),
        ("imagenet", "n00000000 a\nn00000000 b\n", "line 2 repeats"),
        ("imagenetv2", "n00000001 b\nn00000000 a\n", "not in the order of the WordNet ids"),
        ("imagenetv2", "n00000000 a\n", "holds the folder 1"),
        ("imagenet", "n00000000 a\n\nn00000000 b\n", "line 3 repeats"),
        ("imagenet", "\udce9", r"classnames\.txt cannot be read"),
    ],
)
def test_bad_class_names(name: str, content: str, message: str, tmp_path: Path) -> None:
    (make_imagenet(tmp_path, name) / "classnames.txt").write_text(content, "utf-8", "surrogateescape")
    with pytest.raises(CocoopError, match=message):
        open_dataset(name, tmp_path)


def test_unsorted_validation_images_are_refused(tmp_path: Path) -> None:
    folder = make_imagenet(tmp_path) / "images" / "val"
    for part in list(folder.iterdir()):
        for image in part.iterdir():
            image.rename(folder / f"{part.name}-{image.name}")
        part.rmdir()
    with pytest.raises(CocoopError, match="sort its images into one folder a class"):
        open_dataset("imagenet", tmp_path)


def test_listings_are_kept_until_a_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, ["a/1.jpg", "b/2.jpg"])
    for part in ("a", "b"):
        os.utime(tmp_path / part, (1_000, 1_000))
    first = list_class_images(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("cocoop.data.benchmark.wordnet._is_listed", lambda name: pytest.fail("listed again"))
        assert list_class_images(tmp_path) == first == {"a": ["1.jpg"], "b": ["2.jpg"]}
    write_images(tmp_path, ["b/1.jpg"])
    assert list_class_images(tmp_path)["b"] == ["1.jpg", "2.jpg"]
    write_images(tmp_path, ["b/0.jpg"])  # at once: too fresh a folder is not remembered
    assert list_class_images(tmp_path)["b"] == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize("name", ON_DISK)
def test_a_missing_label_file_is_an_error_that_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    folder = make_tree(tmp_path, name) if name in PATHS else make_imagenet(tmp_path, name)
    file = spec(name).labels.files[0]
    (folder / file.name).unlink()
    with pytest.raises(
        CocoopError, match=rf"{file.name} is missing; .*(github\.com|tar\.gz).*none are made up"
    ):
        open_dataset(name, tmp_path)


def test_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COCOOP_DATA", raising=False)
    with pytest.raises(UsageError, match="--root DIR"):
        open_dataset("oxford_pets")
    with pytest.raises(UsageError, match="does not exist"):
        open_dataset("oxford_pets", tmp_path / "nowhere")
    (tmp_path / "data.zip").write_text("")
    with pytest.raises(UsageError, match="unpack archives first"):
        open_dataset("oxford_pets", tmp_path / "data.zip")
    with pytest.raises(CocoopError, match=r"no folder .*oxford_pets/images.*cocoop data check oxford_pets"):
        open_dataset("oxford_pets", tmp_path)
    make_tree(tmp_path, "oxford_pets")
    monkeypatch.setenv("COCOOP_DATA", str(tmp_path))
    assert open_dataset("oxford_pets").root == tmp_path / "oxford_pets" / "images"
    assert open_dataset("emoji/food", tmp_path / "nowhere").name == "emoji/food"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("images_variant_train.txt", "0000000 No Such Plane\n", "line 1: '0000000 No Such Plane'"),
        ("images_variant_test.txt", "../secret class_0\n", "line 1"),
        ("images_variant_val.txt", "0000000\n", "line 1"),
        ("variants.txt", "\udce9", "cannot be read"),
    ],
)
def test_bad_aircraft_lists(file: str, content: str, message: str, tmp_path: Path) -> None:
    (make_tree(tmp_path, "fgvc_aircraft") / file).write_text(content, "utf-8", "surrogateescape")
    with pytest.raises(CocoopError, match=message):
        open_dataset("fgvc_aircraft", tmp_path)


DROPPED_IN = '''
"""A dataset of one's own, in the benchmark's format."""
from cocoop.data.benchmark.spec import Benchmark, split_file
from cocoop.data.datasets import DATASETS

DATASETS.register("my_pets")(
    Benchmark(
        name="my_pets",
        folder="oxford_pets",
        images="images",
        labels=split_file("split_zhou_OxfordPets.json"),
        template="a photo of my {}.",
        classes=37,
        counts={"train": 37, "val": 37, "test": 37},
        source="my own photos",
    )
)
'''


def test_one_file_adds_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    import cocoop.data.datasets
    from cocoop.data.benchmark.check import check

    (tmp_path / "my_pets.py").write_text(DROPPED_IN)
    monkeypatch.setattr(cocoop.data.datasets, "__path__", [*cocoop.data.datasets.__path__, str(tmp_path)])
    monkeypatch.setattr(DATASETS, "_objects", dict(DATASETS._objects))
    monkeypatch.setattr(DATASETS, "_places", None)
    importlib.invalidate_caches()
    make_tree(tmp_path, "oxford_pets")
    assert "my_pets" in DATASETS.names()
    assert check("my_pets", tmp_path).usable
    run = {"datasets": ["my_pets"], "methods": ["zeroshot"], "seeds": [0], "shots": 1, "backbone": "toy"}
    records = cocoop.run("base-to-new", root=tmp_path, folder=tmp_path / "runs", **run)  # type: ignore[arg-type]
    assert [(record.cell.testing.dataset, record.total) for record in records] == [
        ("my_pets", 19),
        ("my_pets", 18),
    ]


@pytest.mark.parametrize("name", ON_DISK)
def test_the_page_says_what_the_code_says(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    layout, _, source = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    facts = spec(name)
    for fact in (facts.folder, facts.images.strip("."), facts.labels.files[0].name, f"`{facts.template}`"):
        assert fact in layout
    for number in (facts.classes, *facts.counts.values()):
        assert f" {number:,} " in layout
    assert facts.source in source


def test_domain_generalization_over_imagenets_variants(tmp_path: Path) -> None:
    for name in ("imagenet", *VARIANTS):
        make_imagenet(tmp_path, name)
    run = {"datasets": ["imagenet"], "seeds": [0], "shots": 1, "backbone": "toy", "methods": ["coop"]}
    run |= {"root": tmp_path, "folder": tmp_path / "runs", "overrides": ["coop.epochs=1"]}
    records = cocoop.run("domain-generalization", **run)  # type: ignore[arg-type]
    tested = {record.cell.testing.dataset for record in records if record.cell.training.recipe}
    assert tested == {"imagenet", *VARIANTS}
    assert {(record.total, len(record.class_names)) for record in records} == {(12, 4)}
