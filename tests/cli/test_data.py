"""`cocoop data`: what it says of whole, damaged, misplaced and foreign trees, and how it exits."""

import json
import shutil
from pathlib import Path

import pytest
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from PIL import Image

from cocoop.cli import main
from cocoop.data import open_dataset
from cocoop.data.benchmark.check import Check, check
from cocoop.data.splits import draw, read_split
from cocoop.data.storage import read_bytes
from cocoop.utils.files import file_digest
from tests.trees import make_imagenet, make_tree, spec, write_images

PETS = "oxford_pets"
Shown = pytest.CaptureFixture[str]


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["data", *map(str, arguments)])
    return int(stopped.value.code or 0)


def findings(result: Check, level: str) -> str:
    return "\n".join(f"{each.text} {each.todo}" for each in result.findings if each.level == level)


def test_a_whole_tree_passes_and_a_missing_image_is_named(
    tmp_path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_tree(tmp_path / "data", PETS, dict(spec(PETS).counts))
    assert call("check", PETS, "--root", tmp_path / "data") == 0
    shown = capsys.readouterr().out
    assert "all 7,349 images are there" in shown
    assert "starts with 'leonberger'" in shown
    assert "usable: oxford_pets" in shown
    assert "benchmark's file has d7f3ffe6" in shown, "a split of our own making is not the benchmark's"
    (folder / "images" / "leonberger_300.jpg").unlink()
    assert call("check", PETS, "--root", tmp_path / "data") == 1
    shown = capsys.readouterr().out
    assert "leonberger_300.jpg: missing" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "nothing is written unasked"
    assert call("check", PETS, "--root", tmp_path / "data", "--json", "--faults", "list.txt") == 1
    assert (tmp_path / "list.txt").read_text() == "leonberger_300.jpg\tmissing\n"
    printed = json.loads(capsys.readouterr().out)
    assert printed["faults"] == [{"path": "leonberger_300.jpg", "problem": "missing"}]
    assert printed["counts"] == {"train": 2944, "val": 736, "test": 3669}
    assert printed["usable"] is False


def test_many_faults_are_summed_up_on_screen_and_listed_in_full(tmp_path: Path, capsys: Shown) -> None:
    images = make_tree(tmp_path, PETS) / "images"
    (images / "beagle_0.jpg").unlink()
    (images / "beagle_0.jpg").write_bytes(b"")
    for path in sorted(images.glob("*_600.jpg"))[:20]:
        path.unlink()
    assert call("check", PETS, "--root", tmp_path, "--faults", tmp_path / "list.txt") == 1
    shown = capsys.readouterr().out
    assert "21 of 111 images cannot be used: 1 empty, 20 missing" in shown
    assert shown.count("_600.jpg: missing") == 9
    assert len((tmp_path / "list.txt").read_text().splitlines()) == 21
    assert call("check", PETS, "--root", tmp_path) == 1
    assert "and 11 more; --faults FILE writes all to a file" in capsys.readouterr().out


def test_reading_finds_broken_images(tmp_path: Path) -> None:
    images = make_tree(tmp_path, PETS) / "images"
    Image.effect_noise((64, 64), 90).save(images / "big.jpg")
    whole = (images / "big.jpg").read_bytes()
    for name, content in (
        ("pug_0.jpg", whole[: len(whole) // 2]),
        ("pug_300.jpg", b"<html>not found</html>"),
    ):
        (images / name).unlink()
        (images / name).write_bytes(content)
    assert not check(PETS, tmp_path).faults
    result = check(PETS, tmp_path, read=True)
    assert [fault.path for fault in result.faults] == ["pug_0.jpg", "pug_300.jpg"]
    assert "truncated" in result.faults[0].problem
    assert "it is no image" in result.faults[1].problem


def test_counts_and_names_are_held_against_the_benchmark(tmp_path: Path) -> None:
    path = make_tree(tmp_path, PETS) / "split_zhou_OxfordPets.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps({key: [[p, 36 - y, n] for p, y, n in part] for key, part in rows.items()}))
    result = check(PETS, tmp_path)
    assert not result.usable
    assert "37 train images, the benchmark has 2,944" in findings(result, "problem")
    assert "starts with 'japanese_chin', the benchmark's with 'leonberger'" in findings(result, "warning")
    path.write_text(json.dumps({key: [[p, y, f"a {n}"] for p, y, n in part] for key, part in rows.items()}))
    assert "other class names than the benchmark's" in findings(check(PETS, tmp_path), "warning")


def test_an_image_in_two_lists_is_a_warning(tmp_path: Path) -> None:
    folder = make_tree(tmp_path, PETS)
    for number, image in enumerate(sorted((folder / "images").iterdir())):
        whole = image.read_bytes()
        image.unlink()
        image.write_bytes(whole + str(number).encode())  # no two alike
    assert "train" not in findings(check(PETS, tmp_path, read=True), "warning")
    path = folder / "split_zhou_OxfordPets.json"
    rows = json.loads(path.read_text())
    rows["test"][0] = first = rows["train"][0]
    path.write_text(json.dumps(rows))
    warnings = findings(check(PETS, tmp_path), "warning")
    assert f"images that are both in train and in test: 1, the first {first[0]} give every image" in warnings
    assert "copies" not in warnings
    original, copy = (folder / "images" / rows[split][1][0] for split in ("train", "val"))
    copy.write_bytes(original.read_bytes())
    assert "copies" not in findings(check(PETS, tmp_path), "warning"), "it reads only where asked to"
    warnings = findings(check(PETS, tmp_path, read=True), "warning")
    assert f"copies of images of train: 1, the first {copy.name}, of {original.name} remove" in warnings


def test_bad_splits_are_problems(tmp_path: Path) -> None:
    path = make_tree(tmp_path, PETS) / "split_zhou_OxfordPets.json"
    path.write_text('{"train": [["../../etc/passwd", 0, "a"]], "val": [], "test": []}')
    assert "leaves the dataset's folder" in findings(check(PETS, tmp_path), "problem")


def test_the_names_of_imagenet_are_those_of_clip(tmp_path: Path) -> None:
    write_images(spec("imagenet").image_folder(tmp_path), ["train/n00000000/1.JPEG", "val/n00000000/1.JPEG"])
    path = tmp_path / "imagenet" / "classnames.txt"
    path.write_text("".join(f"n{label:08} {name}\n" for label, name in enumerate(IMAGENET_CLASSNAMES)))
    assert "evaluated" not in findings(check("imagenet", tmp_path), "warning")
    path.write_text(path.read_text().replace(" missile\n", " rocket\n"))
    assert "2 of 1,000 names are not those" in findings(check("imagenet", tmp_path), "warning")
    path.write_text("tench\n")
    assert "line 1 is not" in findings(check("imagenet", tmp_path), "problem")


def move(root: Path, source: str, target: str) -> None:
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(root / source, root / target)


@pytest.mark.parametrize(
    ("name", "source", "target", "words"),
    [
        (PETS, "oxford_pets", "OxfordPets", "mv OxfordPets oxford_pets"),
        (PETS, "oxford_pets", "oxford-iiit-pet", "ln -s oxford-iiit-pet oxford_pets"),
        ("dtd", "dtd/images", "dtd/dtd/images", "ln -s dtd/images dtd/images"),
        ("caltech101", "caltech-101", "caltech101", "ln -s caltech101 caltech-101"),
        ("fgvc_aircraft", "fgvc_aircraft", "fgvc-aircraft-2013b/data", "ln -s fgvc-aircraft-2013b/data"),
        ("eurosat", "eurosat/2750", "eurosat/EuroSAT_RGB", "ln -s EuroSAT_RGB eurosat/2750"),
        ("oxford_flowers", "oxford_flowers", "flowers-102", "ln -s flowers-102 oxford_flowers"),
        ("food101", "food-101", "food101", "ln -s food101 food-101"),
        ("sun397", "sun397/SUN397/x", "SUN397/a", "mkdir -p sun397 && mv SUN397 sun397/"),
        ("ucf101", "ucf101/UCF-101-midframes", "ucf101/UCF-101", "these are the videos"),
    ],
)
def test_layouts_of_mirrors(name: str, source: str, target: str, words: str, tmp_path: Path) -> None:
    make_tree(tmp_path, name)
    move(tmp_path, source, target)
    if name == "sun397":
        (tmp_path / "sun397" / "SUN397").rmdir()
    result = check(name, tmp_path)
    assert not result.usable
    assert words in findings(result, "problem")


def test_following_the_advice_makes_it_usable(tmp_path: Path) -> None:
    import subprocess

    counts = dict(spec("dtd").counts)
    make_tree(tmp_path, "dtd", counts)
    move(tmp_path, "dtd/images", "dtd/dtd/images")
    (todo,) = (each.todo for each in check("dtd", tmp_path).findings if each.level == "problem")
    command = todo.split("; or: ")[0].partition(f"in {tmp_path}: ")[2]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert check("dtd", tmp_path).usable


def test_images_one_folder_too_deep(tmp_path: Path) -> None:
    make_tree(tmp_path, "stanford_cars")
    move(tmp_path, "stanford_cars/cars_train", "stanford_cars/inner")
    move(tmp_path, "stanford_cars/inner", "stanford_cars/cars_train/cars_train")
    assert "cars_train/cars_train/* " in findings(check("stanford_cars", tmp_path), "problem")
    make_tree(tmp_path, PETS)
    move(tmp_path, "oxford_pets/images", "oxford_pets/inner")
    move(tmp_path, "oxford_pets/inner", "oxford_pets/images/images")
    assert "images/images/* " in findings(check(PETS, tmp_path), "problem")


def test_a_wrong_root_and_archives(tmp_path: Path, capsys: Shown) -> None:
    folder = make_tree(tmp_path, PETS)
    assert f"give the one above, --root {tmp_path}" in findings(check(PETS, folder), "problem")
    shutil.rmtree(folder / "images")
    (folder / "images.tar.gz").write_bytes(b"")
    assert "images.tar.gz is an archive: unpack it there" in findings(check(PETS, tmp_path), "problem")
    shutil.rmtree(folder)
    (tmp_path / "oxford_pets.zip").write_bytes(b"")
    assert "oxford_pets.zip is an archive: unpack it in" in findings(check(PETS, tmp_path), "problem")
    assert call("check", PETS, "--root", tmp_path / "oxford_pets.zip") == 2
    assert "unpack archives first" in capsys.readouterr().err
    assert call("check", "oxford_pet") == 2
    assert "oxford_pets" in capsys.readouterr().err


def test_a_label_file_elsewhere_is_found(tmp_path: Path) -> None:
    folder = make_tree(tmp_path, PETS)
    (folder / "split_zhou_OxfordPets.json").rename(tmp_path / "split_zhou_OxfordPets.json")
    assert f"cp {tmp_path}/split_zhou_OxfordPets.json {folder}/" in findings(check(PETS, tmp_path), "problem")


def test_embedded_data_is_whole() -> None:
    assert check("emoji/activities", read=True).usable


def test_list(tmp_path: Path, capsys: Shown) -> None:
    make_tree(tmp_path, PETS)
    assert call("list", "--root", tmp_path, "--json") == 0
    states = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert (states[PETS], states["dtd"], states["emoji/food"]) == ("found", "not found", "embedded")
    assert call("list") == 0
    assert "oxford_flowers" in capsys.readouterr().out


def test_export(tmp_path: Path, capsys: Shown) -> None:
    assert call("export", "emoji/activities", "--out", tmp_path / "all") == 0
    assert "train 126" in capsys.readouterr().out
    dataset = open_dataset("emoji/activities")
    for split in ("train", "val", "test"):
        files = [path for path in (tmp_path / "all" / split).rglob("*") if path.is_file()]
        assert len(files) == len(dataset.items(split))
        assert {path.parent.name for path in files} == set(dataset.class_names)
    item = dataset.items("test")[0]
    copy = tmp_path / "all" / "test" / item.name / item.path.replace("/", "-")
    assert copy.read_bytes() == read_bytes(dataset.root, item.path)
    assert call("export", "emoji/activities", "--split", "val", "--out", tmp_path / "val") == 0
    assert {path.name for path in (tmp_path / "val").iterdir()} == set(dataset.class_names)
    assert call("export", "emoji/activities", "--out", tmp_path / "val") == 2
    assert "exists" in capsys.readouterr().err
    assert call("export", "emoji/activities", "--split", "vall", "--out", tmp_path / "none") == 2
    assert not (tmp_path / "none").exists()


def test_an_interrupted_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cocoop.data.export.read_bytes", full)
    with pytest.raises(SystemExit):
        main(["data", "export", "emoji/activities", "--out", str(tmp_path / "out")])
    assert list(tmp_path.iterdir()) == []


def test_names_that_no_file_system_takes(tmp_path: Path) -> None:
    from cocoop.data.dataset import Dataset, Item
    from cocoop.data.export import export

    write_images(tmp_path / "in", ["a/1.jpg", "b/1.jpg"])
    items = (Item("a/1.jpg", 0, "F/A-18"), Item("b/1.jpg", 0, "F/A-18"), Item("b/1.jpg", 1, ".."))
    export(Dataset("planes", "{}", tmp_path / "in", {"test": items}), tmp_path / "out", "test")
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.jpg"))
    assert made == ["F_A-18/a-1.jpg", "F_A-18/b-1.jpg", "_/b-1.jpg"]


def test_own_folders_are_checked_too(tmp_path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("export", "emoji/activities", "--split", "val", "--out", "mine") == 0
    assert call("check", "mine", "--read") == 0
    next(path for path in sorted((tmp_path / "mine").rglob("*")) if path.is_file()).write_bytes(b"")
    assert call("check", "./mine") == 1
    assert ": empty" in capsys.readouterr().out
    assert call("check", "./nothing") == 2


def test_a_draw_in_the_format_of_the_split_files(tmp_path: Path, capsys: Shown) -> None:
    file = tmp_path / "draw.json"
    assert call("draw", "emoji/food", "--shots", "1", "--seed", "2", "--out", file) == 0
    assert file_digest(file) in capsys.readouterr().out
    drawn = json.loads(file.read_text())
    dataset = open_dataset("emoji/food")
    expected = draw(dataset.splits, 1, 2)
    assert {split: tuple(map(tuple, rows)) for split, rows in drawn.items()} == expected
    file.write_text(json.dumps(drawn | {"test": drawn["val"]}))
    assert read_split(file)["train"] == expected["train"]
    folder = make_imagenet(tmp_path, "imagenet_a")
    assert call("draw", "imagenet_a", "--root", folder.parent, "--out", file) == 2
