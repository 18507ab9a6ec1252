"""What people reported of own data, under its kind, with today's answer: the table of docs/reported.md."""

import io
import json
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console
from sklearn.model_selection import cross_val_predict
from sklearn.utils import estimator_checks

import cocoop
from cocoop import CocoopError, CoOp, UsageError, ZeroShot, open_dataset
from cocoop.data import decode
from cocoop.data.benchmark.check import check
from cocoop.data.decode import HEIC, decode_photo, to_image
from cocoop.data.own.duplicates import alike
from cocoop.data.own.names import readable
from cocoop.data.own.reading import Reading
from cocoop.estimator import backbone
from cocoop.estimator.inputs import read_classes
from cocoop.estimator.progress import progress
from tests.cli.test_cli import call

TOY = ("--backbone", "toy", "--method", "zeroshot")
DOCS = Path(__file__).parents[1] / "docs" / "reported.md"


def paint(path: Path, seed: int = 0, size: tuple[int, int] = (12, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *str(path).encode()]).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folders(root: str, classes: Sequence[str] = ("cat", "dog"), count: int = 3) -> Path:
    for seed, name in enumerate(classes):
        for number in range(count):
            paint(Path(root, name, f"{number}.png"), seed)
    return Path(root)


def flat(root: str, names: Sequence[str]) -> Path:
    for seed, name in enumerate(names):
        paint(Path(root, name), seed)
    return Path(root)


FILES = ["a.png", "b.png", "c.png", "d.png"]
KINDS = ["cat", "cat", "dog", "dog"]


def labelled(dataset: cocoop.Dataset) -> dict[str, str]:
    return {item.path: item.name for items in dataset.splits.values() for item in items}


def found(source: object, **reading: str) -> dict[str, str]:
    return labelled(open_dataset(str(source), reading=Reading(**reading)))


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    both = capsys.readouterr()
    return " ".join((both.out + both.err).split())


def problem(result: object) -> str:
    return "\n".join(each.text for each in result.findings if each.level != "ok")  # type: ignore[attr-defined]


# layouts


def test_split_folders_without_class_folders(capsys: pytest.CaptureFixture[str]) -> None:
    flat("data/train", FILES)
    flat("data/test", FILES)
    for source in ("data", "data/"):
        with pytest.raises(
            CocoopError, match=r"two ways: as a split whose classes .* classes called 'test' and"
        ):
            open_dataset(source)
    assert call("fit", "data", "--out", "m", *TOY) == 1
    assert "--labels-from folders" in shown(capsys)
    assert not check("data").usable
    assert set(found("data", labels_from="folders").values()) == {"train", "test"}


def test_a_table_of_one_hot_classes_in_each_split() -> None:
    for part in ("train", "valid"):
        flat(f"data/{part}", FILES)
        rows = [
            f"{file}, {int(kind == 'cat')}, {int(kind == 'dog')}"
            for file, kind in zip(FILES, KINDS, strict=True)
        ]
        Path("data", part, "_classes.csv").write_text("filename, cat, dog\n" + "\n".join(rows))
    dataset = open_dataset("data")
    assert labelled(dataset) == {
        f"{p}/{f}": k for p in ("train", "valid") for f, k in zip(FILES, KINDS, strict=True)
    }
    assert {split: len(items) for split, items in dataset.splits.items()} == {"train": 4, "val": 0, "test": 4}
    assert "_classes.csv" in dataset.note


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "train.csv"])
def test_images_beside_a_table(name: str) -> None:
    flat("data", FILES)
    frame = pd.DataFrame({"file_name": FILES, "label": KINDS})
    if name.endswith("csv"):
        frame.to_csv(f"data/{name}", index=False)
    else:
        frame.to_json(f"data/{name}", orient="records", lines=True)
    assert found("data") == dict(zip(FILES, KINDS, strict=True))
    assert check("data").usable
    assert "'file_name'" in open_dataset("data").note


def test_metadata_that_tells_no_classes() -> None:
    folders("data")
    names = [path.relative_to("data").as_posix() for path in Path("data").rglob("*.png")]
    pd.DataFrame({"file_name": names, "caption": "x"}).to_csv("data/metadata.csv", index=False)
    assert set(found("data").values()) == {"cat", "dog"}


def test_labels_json() -> None:
    flat("data/data", FILES)
    labels = {Path(file).stem: ["cat", "dog"].index(kind) for file, kind in zip(FILES, KINDS, strict=True)}
    Path("data/labels.json").write_text(json.dumps({"classes": ["cat", "dog"], "labels": labels}))
    expected = {f"data/{file}": kind for file, kind in zip(FILES, KINDS, strict=True)}
    assert found("data") == expected
    Path("data/labels.json").write_text(json.dumps({"labels": dict(zip(FILES, KINDS, strict=True))}))
    assert found("data") == expected
    Path("data/labels.json").write_text(json.dumps({"classes": ["cat"], "labels": labels}))
    with pytest.raises(CocoopError, match="the label 1 for 'c', but 1 classes"):
        open_dataset("data")
    Path("data/labels.json").write_text(json.dumps({"labels": {"gone": "cat"}}))
    with pytest.raises(CocoopError, match=r"missing.*gone"):
        open_dataset("data")


def test_a_lone_list_of_labels() -> None:
    flat("data", FILES)
    Path("data/labels.txt").write_text("".join(f"{f} {k}\n" for f, k in zip(FILES, KINDS, strict=True)))
    assert found("data") == dict(zip(FILES, KINDS, strict=True))
    Path("data/labels.txt").unlink()
    Path("data/classes.txt").write_text("cat\ndog\n")
    with pytest.raises(CocoopError, match="4 images lie directly in data"):
        open_dataset("data")
    folders("numbered", ("0", "1"))
    Path("numbered/classes.txt").write_text("cat\ndog\n")
    assert "--names numbered/classes.txt" in " ".join(open_dataset("numbered").warnings)
    assert set(labelled(open_dataset("numbered", names="numbered/classes.txt")).values()) == {"cat", "dog"}


def test_file_names_that_carry_the_class(capsys: pytest.CaptureFixture[str]) -> None:
    flat("data", ["cat.0.png", "cat.12.png", "black_bear_3.png", "black_bear (4).png"])
    with pytest.raises(CocoopError, match="--labels-from names"):
        open_dataset("data")
    assert sorted(found("data", labels_from="names").values()) == ["black_bear"] * 2 + ["cat"] * 2
    assert call("fit", "data", "--labels-from", "names", "--out", "m", *TOY) == 0
    assert "classes are in the file names" in shown(capsys)
    assert call("data", "check", "data", "--labels-from", "names") == 0
    flat("bad", ["1.png", "2.png"])
    with pytest.raises(CocoopError, match="does not begin with a class"):
        found("bad", labels_from="names")


def _yolo(root: str) -> None:
    flat(f"{root}/images", FILES)
    Path(root, "labels").mkdir()
    Path(root, "labels", "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")


def _coco(root: str) -> None:
    flat(f"{root}/train", FILES)
    Path(root, "train", "_annotations.coco.json").write_text(
        '{"images": [], "annotations": [], "categories": []}'
    )


def _voc(root: str) -> None:
    flat(f"{root}/train", FILES)
    Path(root, "train", "a.xml").write_text("<annotation><object><name>cat</name></object></annotation>")


@pytest.mark.parametrize(("make", "tool"), [(_yolo, "YOLO"), (_coco, "COCO"), (_voc, "Pascal VOC")])
def test_exports_for_detection(make: object, tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    for root in ("one", "two/train/inside"):
        make(root)  # type: ignore[operator]
    with pytest.raises(CocoopError, match=rf"for detection \({tool}\).*Cut the boxes out"):
        open_dataset("one")
    assert call("data", "check", "one") == 1
    assert "for detection" in shown(capsys)
    assert "## Boxes" in (DOCS.parent / "own-data.md").read_text().replace("### Boxes", "## Boxes")


def test_a_table_of_boxes() -> None:
    flat("data", FILES)
    pd.DataFrame({"filename": FILES, "class": KINDS, "xmin": 0, "ymin": 0}).to_csv("data/t.csv", index=False)
    for source in ("data", "data/t.csv"):
        with pytest.raises(CocoopError, match="holds boxes"):
            open_dataset(source)


def test_folders_and_a_table_that_differ() -> None:
    folders("data")
    names = sorted(path.relative_to("data").as_posix() for path in Path("data").rglob("*.png"))
    frame = pd.DataFrame({"path": names, "label": [Path(name).parent.name for name in names]})
    frame.to_csv("data/labels.csv", index=False)
    assert set(found("data").values()) == {"cat", "dog"}
    frame.assign(label=["tabby"] * 3 + ["hound"] * 3).to_csv("data/labels.csv", index=False)
    with pytest.raises(
        CocoopError, match=r"two ways: by its folders, cat/0\.png is 'cat'; by labels\.csv it is 'tabby'"
    ):
        open_dataset("data")
    assert set(found("data", labels_from="labels.csv").values()) == {"tabby", "hound"}
    assert set(found("data", labels_from="folders").values()) == {"cat", "dog"}
    with pytest.raises(UsageError, match=r"no table other.csv"):
        found("data", labels_from="other.csv")


def test_a_test_folder_without_labels() -> None:
    folders("data/train")
    flat("data/test", FILES)
    dataset = open_dataset("data")
    assert dataset.class_names == ("cat", "dog")
    assert "4 image(s) that lie in no class folder: test/a.png" in " ".join(dataset.warnings)
    assert "4 image(s)" in problem(check("data"))


# columns


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_separators_and_encodings(sep: str, encoding: str) -> None:
    flat("data", FILES)
    kinds = ["Käse", "Käse", "Brot", "Brot"]
    text = f"path{sep}label\n" + "".join(f"{f}{sep}{k}\n" for f, k in zip(FILES, kinds, strict=True))
    Path("data/t.csv").write_bytes(text.encode(encoding))
    dataset = open_dataset("data/t.csv")
    assert labelled(dataset) == dict(zip(FILES, kinds, strict=True))
    assert (f"separated by {sep!r}" in dataset.note) == (sep != ",")
    assert ("read as" in dataset.note) == (not encoding.startswith("utf-8"))


def test_separators_and_encodings_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    flat("data", FILES)
    rows = "".join(f"{f}#Käse{k}\n" for f, k in zip(FILES, KINDS, strict=True))
    Path("data/t.csv").write_bytes(f"path#label\n{rows}".encode("mac-roman"))
    read = {"sep": "#", "encoding": "mac-roman"}
    assert set(found("data/t.csv", **read).values()) == {"Käsecat", "Käsedog"}
    asked = ("--sep", "#", "--encoding", "mac-roman")
    assert call("fit", "data/t.csv", "--out", "m", *TOY, *asked) == 0
    assert cocoop.load("m").classes_.tolist() == ["Käsecat", "Käsedog"]
    assert call("evaluate", "m", "data/t.csv", *asked) == 0
    assert call("features", "data/t.csv", "--out", "f.parquet", "--backbone", "toy", *asked) == 0
    assert call("data", "check", "data/t.csv", *asked) == 0
    for wrong in (("--encoding", "klingon"), ("--sep", "##")):
        assert call("data", "check", "data/t.csv", *wrong) == 2
    capsys.readouterr()


def test_a_table_without_a_header() -> None:
    flat("data", FILES)
    Path("data/t.csv").write_text("".join(f"{f},{k}\n" for f, k in zip(FILES, KINDS, strict=True)))
    dataset = open_dataset("data/t.csv")
    assert labelled(dataset) == dict(zip(FILES, KINDS, strict=True))
    assert "no header" in dataset.note


@pytest.mark.parametrize(
    ("path", "label"), [("filename", "class"), ("Image Path", "Category"), ("img", "target")]
)
def test_columns_of_usual_names(path: str, label: str) -> None:
    flat("data", FILES)
    pd.DataFrame({path: FILES, label: KINDS, "width": 3}).to_csv("data/t.csv", index=False)
    dataset = open_dataset("data/t.csv")
    assert labelled(dataset) == dict(zip(FILES, KINDS, strict=True))
    assert repr(path) in dataset.note
    assert repr(label) in dataset.note


def test_columns_of_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    flat("data", FILES)
    pd.DataFrame({"foto": FILES, "tier": KINDS, "teil": ["train", "test"] * 2}).to_csv(
        "data/t.csv", index=False
    )
    assert call("data", "check", "data/t.csv") == 1
    assert "--path-column" in shown(capsys)
    asked = ("--path-column", "foto", "--label-column", "tier", "--split-column", "teil")
    assert call("fit", "data/t.csv", "--out", "m", *TOY, *asked) == 0
    assert "2 images to learn from, 2 held out" in shown(capsys)
    assert call("data", "check", "data/t.csv", *asked[:-1], "teile") == 2
    assert "Did you mean 'teil'" in shown(capsys)
    with pytest.raises(CocoopError, match=r"lacks the column 'label'.*--label-column"):
        found("data/t.csv", path_column="foto")
    with pytest.raises(UsageError, match="chosen for own data alone"):
        open_dataset("emoji/food", reading=Reading(sep=";"))


def test_two_columns_of_labels() -> None:
    import datasets

    flat("data", FILES)
    frame = pd.DataFrame(
        {"path": FILES, "label": [0, 0, 1, 1], "class_name": KINDS, "class": ["x", "y", "x", "y"]}
    )
    frame.to_csv("data/t.csv", index=False)
    with pytest.raises(CocoopError, match=r"3 columns that may be the label.*--label-column class_name"):
        open_dataset("data/t.csv")
    assert set(found("data/t.csv", label_column="class").values()) == {"x", "y"}
    frame.drop(columns="class").to_csv("data/t.csv", index=False)  # the same, as numbers and words
    assert set(found("data/t.csv").values()) == {"cat", "dog"}
    kinds = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"image": datasets.Image(), "coarse": kinds, "fine": kinds})
    rows = {"image": [f"data/{file}" for file in FILES], "coarse": [0, 0, 1, 1], "fine": [0, 1, 0, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk("saved")
    with pytest.raises(CocoopError, match="2 columns of labels; say which: --label-column coarse or"):
        open_dataset("saved")
    fine = open_dataset("saved", reading=Reading(label_column="fine"))
    assert labelled(fine)["all/0000001.png"] == "dog"


def test_web_addresses_in_a_table() -> None:
    Path("data").mkdir()
    Path("data/t.csv").write_text(
        "image_url,label\nhttps://a.example/1.jpg,cat\nhttps://a.example/2.jpg,dog\n"
    )
    with pytest.raises(CocoopError, match=r"the web address 'https://a\.example/1\.jpg'.*fetch the images"):
        open_dataset("data/t.csv")


def test_paths_that_name_the_split() -> None:
    flat("data/train", FILES)
    flat("data/test", FILES)
    names = [f"{part}/{file}" for part in ("train", "test") for file in FILES]
    pd.DataFrame({"path": names, "label": KINDS * 2}).to_csv("data/t.csv", index=False)
    dataset = open_dataset("data/t.csv")
    assert [item.path.partition("/")[0] for item in dataset.items("test")] == ["test"] * 4
    assert "splits are the folders" in dataset.note
    assert open_dataset("data").splits == dataset.splits


# several labels


SEVERAL = [("cat", "dog"), ("cat",), ("dog",), ()]


def every_label(source: str, **reading: str) -> list[tuple[str, ...]]:
    return list(open_dataset(source, reading=Reading(**reading), multilabel=True).labels.values())


def test_several_labels_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    import datasets

    flat("data", FILES)
    rows = [{"path": file, "label": list(names)} for file, names in zip(FILES, SEVERAL, strict=True)]
    Path("data/t.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pd.DataFrame(rows).to_parquet("data/t.parquet")
    kinds = datasets.List(datasets.ClassLabel(names=["cat", "dog"]))
    images = {"image": [f"data/{file}" for file in FILES], "labels": [[0, 1], [0], [1], []]}
    features = datasets.Features({"image": datasets.Image(), "labels": kinds})
    datasets.Dataset.from_dict(images, features=features).save_to_disk("saved")
    for source in ("data/t.jsonl", "data/t.parquet", "saved"):
        assert every_label(source) == SEVERAL
        with pytest.raises(UsageError, match="here an image must have one"):
            open_dataset(source)
    assert call("run", "few-shot", "--datasets", "data/t.jsonl", "--backbone", "toy") == 2
    assert "here an image must have one" in shown(capsys)
    pd.DataFrame({"path": FILES, "label": "['a', 'b']"}).to_csv("data/t.csv", index=False)
    with pytest.raises(CocoopError, match=r"list for a label.*--label-sep"):
        open_dataset("data/t.csv")


def test_texts_of_several_labels() -> None:
    flat("data", FILES)
    pd.DataFrame({"path": FILES, "label": ["cat|dog", "cat", "dog", "cat"]}).to_csv("data/t.csv", index=False)
    with pytest.raises(
        CocoopError, match=r"two ways: 'cat\|dog' as one class.*--label-sep '\|'.*--labels one"
    ):
        open_dataset("data/t.csv")
    assert every_label("data/t.csv", label_sep="|") == [("cat", "dog"), ("cat",), ("dog",), ("cat",)]
    pd.DataFrame({"path": FILES, "label": ["cat|dog"] * 2 + ["owl"] * 2}).to_csv("data/t.csv", index=False)
    assert set(found("data/t.csv").values()) == {"cat|dog", "owl"}  # no part of it is another class


def test_marks_of_several_labels() -> None:
    for part, kinds in (("train", SEVERAL), ("valid", [("cat",), ("dog",), ("cat",), ("dog",)])):
        flat(f"data/{part}", FILES)
        rows = [
            f"{file},{int('cat' in names)},{int('dog' in names)}"
            for file, names in zip(FILES, kinds, strict=True)
        ]
        Path("data", part, "_classes.csv").write_text("filename,cat,dog\n" + "\n".join(rows))
    assert every_label("data")[:4] == SEVERAL
    assert every_label("data")[4:] == [("cat",), ("dog",), ("cat",), ("dog",)]


def test_scores_of_several_labels() -> None:
    images = [Image.open(paint(Path(f"{seed}.png"), seed)) for seed in range(4)]
    model = CoOp("toy", epochs=1).fit(images, [["cat", "dog"], ["cat"], ["dog"], []])
    scores = model.predict_proba(images)
    assert (np.abs(scores.sum(1) - 1) > 0.01).any()
    np.testing.assert_allclose(model.predict_proba(images, ["dog"])[:, 0], scores[:, 1], rtol=1e-4)
    limits = np.array(model.info_.multilabel.thresholds)  # type: ignore[union-attr]
    expected = [tuple(np.array(["cat", "dog"])[row >= limits]) for row in scores]
    assert [tuple(sorted(names)) for names in model.predict(images)] == expected


# images


def test_kinds_that_are_not_read_are_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    folders("data")
    for name in ("1.CR2", "2.cr2", "3.svg"):
        Path("data/cat", name).write_bytes(b"x")
    (warning,) = open_dataset("data").warnings
    assert warning == "passed over 3 image(s) of kinds that are not read: 2 .cr2, 1 .svg"
    assert call("fit", "data", "--out", "m", *TOY) == 0
    assert warning in shown(capsys)
    assert warning in problem(check("data"))
    assert call("predict", "m", "data") == 0
    assert warning in shown(capsys)
    Path("raw").mkdir()
    Path("raw/1.cr2").write_bytes(b"x")
    assert call("predict", "m", "raw") == 2
    assert "1 .cr2" in shown(capsys)


def test_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "HEIC", False)
    assert decode.needs([".heic", ".png"]) == " (for HEIC: pip install 'cocoop[heic]')"
    assert decode.needs([".png"]) == ""
    monkeypatch.undo()
    if not HEIC:
        pytest.skip("the extra heic is not installed")
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(file, "HEIF")
    assert decode_photo(file.getvalue()).getpixel((8, 8))[0] > 150
    assert decode.is_image_name("a.HEIC")


@pytest.mark.parametrize(("bits", "high"), [(8, 255), (12, 4095)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_fewer_bits_than_the_file_has(bits: int, high: int, kind: str, here: Path) -> None:
    from cocoop.deploy.onnx.standalone import pixels

    values = np.array([[0, high // 2], [high, high]], np.uint16).repeat(8, 0).repeat(8, 1)
    Image.fromarray(values).save(here / f"a.{kind.lower()}")
    with pytest.warns(UserWarning, match=f"no value above {high}; it is taken for one of {bits} bits"):
        photo = to_image(here / f"a.{kind.lower()}")
    assert sorted(set(np.asarray(photo).ravel().tolist())) == [0, 127, 255]
    spec = {"size": 16, "resize_mode": "shortest", "interpolation": "bicubic", "mean": [0.0], "std": [1.0]}
    np.testing.assert_allclose(
        pixels(here / f"a.{kind.lower()}", spec)[0] * 255, np.asarray(photo)[..., 0], atol=1
    )


def test_dark_colours_of_16_bits() -> None:
    def png(value: int) -> bytes:
        rows = b"".join(b"\0" + np.full((4, 3), value, ">u2").tobytes() for _ in range(4))
        header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
        return b"\x89PNG\r\n\x1a\n" + b"".join(packed)

    with pytest.raises(ValueError, match="12 bits of 16 or fewer"):
        decode_photo(png(4000))
    assert decode_photo(png(40_000)).getpixel((0, 0)) == (156, 156, 156)
    assert decode_photo(png(0)).getpixel((0, 0)) == (0, 0, 0)
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 70_000]], np.int32)).save(file, "TIFF")
    with pytest.raises(ValueError, match="32-bit numbers"):
        decode_photo(file.getvalue())


def test_null_images_in_a_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    import datasets

    flat("data", FILES)
    rows = {"image": [*(f"data/{file}" for file in FILES), None], "label": [*KINDS, "cat"]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk("saved")
    assert open_dataset("saved").warnings == ("passed over 1 rows without an image",)
    assert call("fit", "saved", "--out", "m", *TOY) == 0
    assert "1 rows without an image" in shown(capsys)
    assert "1 rows without an image" in problem(check("saved", read=True))


def test_the_same_image_in_two_classes_or_splits(capsys: pytest.CaptureFixture[str]) -> None:
    folders("data/train")
    folders("data/test", count=2)
    Path("data/test/cat/copy.png").write_bytes(Path("data/train/dog/0.png").read_bytes())
    texts = (
        "the same file in two classes: test/cat/copy.png (cat, test) and train/dog/0.png (dog, train)",
        "the same file in two splits",
    )
    assert call("fit", "data", "--out", "m", *TOY) == 0
    fitted = shown(capsys)
    for text in texts:
        assert text in problem(check("data"))
        assert text in fitted


def test_nearly_the_same_image(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for part, kinds in (("train", ("cat", "dog")), ("test", ("cat", "dog"))):
        for kind in kinds:
            for number in range(2):
                small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((64, 64))
                Path("data", part, kind).mkdir(parents=True, exist_ok=True)
                small.save(Path("data", part, kind, f"{number}.png"))
    assert "nearly" not in problem(check("data", read=True))
    with Image.open("data/train/cat/0.png") as image:
        image.resize((50, 50)).save("data/test/dog/again.jpg", quality=80)
    assert "nearly" not in problem(check("data"))
    assert "1 pair(s) of images are nearly the same picture in two classes" in problem(
        check("data", read=True)
    )
    same = [bytes([value]) * 768 for value in (0, 100, 103, 200)]
    assert list(alike(["a", "b", "c", "d"], same)) == [("b", "c")]


# names


def test_wordnet_ids(capsys: pytest.CaptureFixture[str]) -> None:
    folders("data", ("n02123045", "n02099601"))
    assert "reads 'Golden Retriever'" in problem(check("data"))
    assert call("fit", "data", "--out", "m", *TOY, "--names", "auto") == 0
    assert cocoop.load("m").classes_.tolist() == ["Golden Retriever", "tabby cat"]
    assert "warning: class names" not in shown(capsys)


def test_numbered_names() -> None:
    folders("data", ("001.Black_footed_Albatross", "002.Laysan_Albatross"))
    assert "--names auto reads 'Black footed Albatross'" in problem(check("data"))
    assert open_dataset("data", names="auto").class_names == ("Black footed Albatross", "Laysan Albatross")
    assert readable(["3 wheeler", "cat"]) == {"3 wheeler": "3 wheeler", "cat": "cat"}


@pytest.mark.parametrize(
    "names", [("class_7", "class_8"), ("0", "1"), ("Label 1", "Label 2"), ("1.0", "2.0")]
)
def test_names_that_are_numbers(names: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    folders("data", names)
    text = f"class names such as {names[0]!r}, {names[1]!r} say nothing to CLIP"
    assert text in problem(check("data"))
    assert call("fit", "data", "--out", "m", *TOY) == 0
    assert text in shown(capsys)


def test_names_that_differ_in_case_or_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    flat("data", [*FILES, "e.png"])
    kinds = ["Cat", "cat ", "cat", "dog", "dog"]
    pd.DataFrame({"path": [*FILES, "e.png"], "label": kinds}).to_csv("data/t.csv", index=False)
    dataset = open_dataset("data/t.csv")
    assert dataset.class_names == ("cat", "dog")
    assert "'Cat' and 'cat' are one class, 'cat'" in dataset.note
    assert call("fit", "data/t.csv", "--out", "m", *TOY) == 0
    assert (
        call("predict", "m", "data/a.png", "--classes", "red fox,Red  Fox,red_fox,dog", "--format", "json")
        == 0
    )
    assert "Red  Fox" not in capsys.readouterr().out
    for wrong in (
        lambda m: m.fit(np.zeros((2, 8, 8, 3)), ["Cat", "cat"]),
        lambda m: m.predict(np.zeros((1, 8, 8, 3)), ["a cat", "A  cat"]),
    ):
        with pytest.raises(UsageError, match="are one to CLIP"):
            wrong(ZeroShot("toy"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '["cat", "dog"]'),
        ("c.json", '{"0": "cat", "1": "dog"}'),
        ("c.csv", "id,name\n0,cat\n1,dog\n"),
        ("c.csv", "cat\ndog\n"),
        ("c.txt", "cat\ndog\nCat\n"),
        ("c.txt", '["cat", "dog"]'),
    ],
)
def test_files_of_class_names(name: str, text: str) -> None:
    Path(name).write_text(text)
    assert read_classes(Path(name)) == ("cat", "dog")
    Path("bad.json").write_text('{"names": [1]}')
    with pytest.raises(CocoopError, match=r"bad\.json holds no list of class names"):
        read_classes(Path("bad.json"))


def test_one_candidate_name(capsys: pytest.CaptureFixture[str]) -> None:
    folders("data")
    assert call("fit", "data", "--out", "m", *TOY) == 0
    capsys.readouterr()
    model = cocoop.load("m")
    cosine = model.similarities("data/cat/0.png", ["violin"])[0, 0]
    assert call("predict", "m", "data/cat/0.png", "--classes", "violin") == 0
    assert capsys.readouterr().out.split()[-2:] == ["violin", f"{cosine:.3f}"]
    assert call("predict", "m", "data/cat/0.png", "--classes", "violin", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)[0]["top"] == [
        {"name": "violin", "similarity": pytest.approx(cosine, abs=1e-5)}
    ]
    assert call("predict", "m", "data/cat/0.png", "--classes", "violin", "--min-confidence", "0.5") == 2
    assert call("export", "m", "--out", "e", "--classes", "violin") == 2
    with pytest.raises(UsageError, match="one class alone has the probability 1"):
        model.predict_proba("data/cat/0.png", ["violin"])


# models that are there


def test_a_model_is_not_overwritten_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    folders("data")
    assert call("fit", "data", "--out", "m", *TOY) == 0
    before = Path("m/model.json").read_bytes()
    assert call("fit", "data", "--out", "m", *TOY) == 2
    assert "m holds a model already" in shown(capsys)
    assert Path("m/model.json").read_bytes() == before
    assert call("fit", "data", "--out", "m", *TOY, "--overwrite") == 0
    with pytest.raises(UsageError, match="overwrite=True"):
        cocoop.load("m").save("m")
    cocoop.load("m").save("m", overwrite=True)
    Path("e").mkdir()
    Path("e/export.json").write_text("{}")
    assert call("export", "m", "--out", "e") == 2
    assert "e holds an export already" in shown(capsys)


# a backbone that cannot see the images


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the network: nothing may be."""
    calls: list[str] = []
    monkeypatch.setattr(backbone, "_reachable", lambda: bool(calls.append("asked")))
    backbone.chosen.cache_clear()
    yield calls
    backbone.chosen.cache_clear()


def test_photographs_without_a_network(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folders("data")  # noise has no areas of one colour, as photographs have none
    assert call("fit", "data", "--out", "m", "--method", "zeroshot") == 0
    text = shown(capsys)
    assert text.index("HF_HUB_OFFLINE") < text.index("tiny-photo knows everyday things, far less well")
    assert text.index("far less well") < text.index("held-out images")
    assert cocoop.load("m").backbone_.name == "tiny-photo"
    assert call("predict", "m", "data/cat") == 0
    assert capsys.readouterr().err == ""
    assert call("data", "check", "data") == 0
    assert "--backbone auto is the embedded tiny-photo here" in shown(capsys)
    with pytest.warns(UserWarning, match="embedded tiny-photo is used"):
        ZeroShot().fit(["data/cat/0.png", "data/dog/0.png"], ["cat", "dog"])
    assert not asked


def test_images_of_a_kind_that_an_embedded_backbone_does_not_know(
    asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folders("data")
    assert call("data", "export", "emoji/activities", "--split", "val", "--out", "drawn") == 0
    for name, data, words in (
        ("tiny-clip-vit", "data", "knows drawings, not photographs, which these look like: .* tiny-photo"),
        ("tiny-photo", "drawn", "knows photographs, not drawings, which these look like: .* tiny-clip,"),
    ):
        given = ("--out", name, "--backbone", name, "--method", "zeroshot")
        assert call("fit", data, *given) == 0
        assert re.search(f"warning: {name} {words}", shown(capsys))
        image = next(path for path in sorted(Path(data).rglob("*.*")) if path.suffix in (".png", ".webp"))
        assert call("predict", name, str(image)) == 0
        assert re.search(f"^warning: {name} {words}", capsys.readouterr().err)
    assert not asked


def test_drawings_without_a_network(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("data", "export", "emoji/activities", "--split", "val", "--out", "drawn") == 0
    assert call("fit", "drawn", "--out", "m2", "--method", "zeroshot") == 0
    assert cocoop.load("m2").backbone_.name == "tiny-clip"
    assert call("predict", "m2", "drawn/soccer ball") == 0
    assert call("data", "check", "drawn") == 0
    assert call("fit", "emoji/activities", "--out", "m3", "--method", "zeroshot") == 0
    assert "which these look like" not in shown(capsys)
    assert not asked


def test_auto_takes_the_real_backbone_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone.chosen.cache_clear()
    monkeypatch.setattr(backbone.constants, "HF_HUB_OFFLINE", False)
    for reachable, name in ((True, backbone.REAL), (False, "")):
        monkeypatch.setattr(backbone, "_reachable", lambda answer=reachable: answer)
        assert backbone.chosen()[0] == name
        backbone.chosen.cache_clear()
    monkeypatch.setattr(backbone, "_reachable", lambda: pytest.fail("the network was asked"))
    monkeypatch.setattr("cocoop.backbones.names.try_to_load_from_cache", lambda repository, file: "/a/path")
    assert backbone.chosen() == (backbone.REAL, "it is in the cache")
    backbone.chosen.cache_clear()


def test_a_silent_network_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(backbone, "PATIENCE", 0.05)
    released = threading.Event()
    monkeypatch.setattr(backbone, "get_session", lambda: released.wait(5))
    assert not backbone._reachable()
    released.set()


# Python


def test_no_images() -> None:
    for model in (ZeroShot("toy"), CoOp("toy", epochs=1), cocoop.CoCoOp("toy", epochs=1)):
        model.fit(np.zeros((2, 8, 8, 3)), ["cat", "dog"])
        assert model.predict([]).shape == (0,)
        assert model.predict_proba([]).shape == (0, 2)
        assert model.similarities([], ["a", "b", "c"]).shape == (0, 3)


def test_data_frames() -> None:
    folders("data")
    paths = sorted(map(str, Path("data").rglob("*.png")))
    frame = pd.DataFrame({"file_name": paths, "label": [Path(path).parent.name for path in paths]})
    model = ZeroShot("toy").fit(frame)
    assert model.classes_.tolist() == ["cat", "dog"]
    expected = model.predict(paths)
    for images in (frame, frame["file_name"], frame[["file_name"]]):
        assert (model.predict(images) == expected).all()
    assert ZeroShot("toy").fit(frame["file_name"], frame["label"]).score(frame) == model.score(
        paths, frame["label"]
    )
    with pytest.raises(UsageError, match="which column of the frame is the path"):
        model.predict(frame.rename(columns={"file_name": "x"}))


def test_images_in_memory() -> None:
    path = paint(Path("a.png"))
    model = ZeroShot("toy").fit([path, path], ["cat", "dog"])
    expected = model.predict_proba(path)
    array = np.asarray(Image.open(path))
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for image in (path.read_bytes(), io.BytesIO(path.read_bytes()), [array], array[None], tensor[None]):
        np.testing.assert_allclose(model.predict_proba(image), expected, atol=1e-6)
    with pytest.raises(CocoopError, match="cannot read an image of 4 bytes"):
        model.predict(b"text")
    with pytest.raises(UsageError, match="four axes"):
        model.predict(tensor)


def test_torchvision_data_sets() -> None:
    from torchvision.datasets import FakeData, ImageFolder

    folders("data")
    model = ZeroShot("toy").fit(ImageFolder("data"))
    assert model.classes_.tolist() == ["cat", "dog"]
    assert (model.predict(ImageFolder("data")) == model.predict(sorted(Path("data").rglob("*.png")))).all()
    fake = FakeData(3, (3, 16, 16), 2)
    assert model.predict(fake).shape == (3,)
    assert ZeroShot("toy").fit(fake, ["cat", "dog", "cat"]).predict(fake).shape == (3,)
    with pytest.raises(UsageError, match="give the class name of every image"):
        ZeroShot("toy").fit(fake)


def test_encoded_labels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    assert cross_val_predict(ZeroShot("toy"), images, ["cat", "dog"] * 3, cv=2).shape == (6,)
    with pytest.raises(ValueError, match="cross_val_predict does for predict_proba, give the names"):
        cross_val_predict(ZeroShot("toy"), images, ["cat", "dog"] * 3, cv=2, method="predict_proba")


@pytest.mark.parametrize(
    "name",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimators_unfitted",
        "check_mixin_order",
    ],
)
def test_checks_of_scikit_learn(name: str) -> None:
    """Those that pass no table of numbers for images."""
    getattr(estimator_checks, name)("PromptClassifier", ZeroShot("toy"))


# without a terminal


def test_progress_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1000.0, 5.0))
    monkeypatch.setattr("cocoop.estimator.progress.time.monotonic", lambda: next(clock))
    log = io.StringIO()
    with progress("training", 20, Console(file=log)) as advance:
        for _ in range(20):
            advance(1)
    lines = log.getvalue().splitlines()
    assert lines[0] == "training: 2 of 20, about 90 s left"
    assert 2 < len(lines) < 8


def test_a_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    folders("data")
    assert call("fit", "data", "--out", "m", "--backbone", "toy", "--epochs", "3", "--dry-run") == 0
    text = shown(capsys)
    assert "2 classes, 4 images to learn from, 2 held out" in text
    assert re.search(r"method: cocoop, 3 epochs, batches of 1, 12 steps", text)
    assert "would write: m" in text
    assert not Path("m").exists()
    assert call("fit", "emoji/food", "--out", "m", "--dry-run") == 0
    assert "backbone: tiny-clip would write" in shown(capsys)


def test_many_classes_of_one_image(capsys: pytest.CaptureFixture[str]) -> None:
    """Images times names are bounded: an epoch of 1,200 takes 5 minutes on one core, measured once."""
    from cocoop.estimator.shots import PAIRS, limit_epochs

    model = cocoop.CoCoOp("tiny-clip")
    limit_epochs(model, 1200, 1200)
    assert model.epochs == 2
    model = cocoop.CoCoOp("tiny-clip")
    limit_epochs(model, 100, 100)
    assert model.epochs is None
    assert PAIRS >= 1200 * 1200


# what is exported, and links


def test_the_exported_runner_goes_on() -> None:
    runner = Path(cocoop.__file__).parent / "deploy" / "onnx" / "standalone.py"
    folders("data")
    size = {"size": 4, "resize_mode": "shortest", "interpolation": "bicubic", "mean": [0.0], "std": [1.0]}
    Path("e").mkdir()
    Path("e/run.py").write_bytes(runner.read_bytes())
    Path("e/export.json").write_text(json.dumps({"classes": ["red", "green", "blue"], "preprocess": size}))
    kind = onnx.TensorProto.FLOAT
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        onnx.helper.make_node("Flatten", ["mean"], ["flat"]),
        onnx.helper.make_node("Softmax", ["flat"], ["probabilities"]),
    ]
    given = [onnx.helper.make_tensor_value_info("images", kind, ["b", 3, 4, 4])]
    made = [onnx.helper.make_tensor_value_info("probabilities", kind, ["b", 3])]
    graph = onnx.helper.make_graph(nodes, "colours", given, made)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, "e/model.onnx")
    Path("bad.png").write_text("no image")
    command = [sys.executable, "e/run.py"]
    done = subprocess.run([*command, "bad.png", "data/cat/0.png"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("data/cat/0.png\t")
    assert "skipped: cannot read the image bad.png" in done.stderr
    assert subprocess.run([*command, "bad.png"], capture_output=True).returncode == 1


@pytest.mark.parametrize("place", ["data/wolf", "data/cat/more"])
def test_links_out_of_the_folder(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    folders("data")
    folders("elsewhere", ("wolf",))
    Path(place).symlink_to(Path("elsewhere/wolf").resolve(), target_is_directory=True)
    with pytest.raises(CocoopError, match="is a link that leads out of"):
        open_dataset("data")
    assert call("fit", "data", "--out", "m", *TOY) == 1
    assert "leads out of" in shown(capsys)
    assert "| a link out of the folder, or to nothing | refused" in (DOCS.parent / "own-data.md").read_text()


# the table


def test_every_row_of_the_table_is_a_test() -> None:
    rows = re.findall(r"`(test_\w+)`", DOCS.read_text())
    tests = [
        name
        for name in globals()
        if name.startswith("test_") and name != "test_every_row_of_the_table_is_a_test"
    ]
    assert sorted(rows) == sorted(tests)
    assert len(rows) >= 30
