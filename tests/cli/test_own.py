"""The commands for own images, as a person uses them: output, files, exit codes."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from rich.console import Console

import cocoop
from cocoop import CoCoOp, open_dataset
from cocoop.data.storage import read_bytes
from cocoop.estimator.evaluate import per_class
from cocoop.estimator.explain import nearest_words
from cocoop.estimator.fit import FitOptions, fit
from cocoop.estimator.predict import Prediction
from cocoop.estimator.predict_output import as_csv, as_json
from tests.cli.test_cli import call
from tests.estimator.test_estimator import COLOURS

EPOCHS = ("--epochs", "2")
QUICK = (*EPOCHS, "--backbone", "tiny-clip")


def paint(folder: Path, colours: dict[str, tuple[int, int, int]], count: int = 3) -> Path:
    rng = np.random.default_rng(0)
    for name, colour in colours.items():
        for index in range(count):
            pixels = np.clip(np.array(colour) + rng.integers(-20, 20, (48, 48, 3)), 0, 255)
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return paint(tmp_path / "photos", COLOURS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    paint(folder / "photos", COLOURS)
    params = {"method": "cocoop", "backbone": "tiny-clip", "epochs": 2}
    fit(FitOptions(str(folder / "photos"), folder / "m", 16, None, None, None, params), Console(quiet=True))
    return folder / "m"


def test_fit_then_predict(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "red" / "notes.txt").write_text("x")
    assert call("fit", "photos", "--out", "m", *QUICK) == 0
    shown = capsys.readouterr().out
    assert "photos: 3 classes, 6 images to learn from, 3 held out" in shown
    assert "1 file(s) that are no images: red/notes.txt" in shown
    assert "held-out images" in shown
    assert "one of the held-out ones is 33.3%" in shown
    assert "tiny-clip knows drawings, not photographs" in shown
    assert call("predict", "m", "photos/red/0.png", "--classes", "red, violin,a teapot") == 0
    line = capsys.readouterr().out
    assert line.startswith("photos/red/0.png  red ")
    assert "violin" in line
    model = cocoop.load("m")
    assert model.predict(["photos/red/0.png"], ["red", "violin"])[0] == "red"
    assert [result.name for result in model.info_.results] == ["held-out images"]
    assert model.info_.results[0].images == 3


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_new_classes(photos: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    paint(Path("new"), {"white": (250, 250, 250), "black": (5, 5, 5)})
    Path("new.txt").write_text("white\n\nblack\nred\n")
    given = {"file": "new.txt", "folder": "new"}[kind]
    assert call("fit", "photos", "--out", "m", *QUICK, "--new-classes", given) == 0
    shown = capsys.readouterr().out
    found = {result.name: (result.classes, result.images) for result in cocoop.load("m").info_.results}
    if kind == "file":
        assert found == {"held-out images": (3, 3), "held-out images, new names offered too": (5, 3)}
        assert "cannot be measured" in shown
    else:
        assert found == {
            "held-out images": (3, 3),
            "images of new classes": (2, 6),
            "images of new classes, all names offered": (5, 6),
        }


def test_harm_to_new_names_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained on wrong labels, it must be worse on right ones, and the summary must say so."""
    monkeypatch.chdir(tmp_path)
    food = open_dataset("emoji/food")
    other = {"pizza": "red apple", "red apple": "wine glass", "wine glass": "pizza"}
    for item in (item for split in ("train", "val", "test") for item in food.items(split)):
        if item.name in other:
            for folder, name in (("right", item.name), ("wrong", other[item.name])):
                path = Path(folder, name, Path(item.path).name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(read_bytes(food.root, item.path))
    ruin = ("--set", "cocoop.lr=0.05", "--epochs", "6")
    assert call("fit", "wrong", "--out", "m", *ruin, "--new-classes", "right") == 0
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "it is worse than zero-shot CLIP on images of new classes" in shown
    assert "another method, or zero-shot CLIP itself: --method zeroshot" in shown


def test_zero_shot_is_a_model_too(photos: Path) -> None:
    assert call("fit", "photos", "--out", "m", "--method", "zeroshot") == 0
    (result,) = cocoop.load("m").info_.results
    assert result.zeroshot == result.trained


def test_many_images_are_seen_fewer_times(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoop.estimator.shots.SEEN", 18)
    assert call("fit", "photos", "--out", "m", "--backbone", "toy") == 0
    assert len(cocoop.load("m").info_.lr) == 3
    again = ("--out", "m", "--overwrite")
    assert call("fit", "photos", *again, "--backbone", "toy", "--preset", "cocoop-paper") == 0
    assert len(cocoop.load("m").info_.lr) == 10


def test_steps_for_every_shot_are_passes_where_nothing_was_asked(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoop.estimator.shots.SEEN", 18)
    model = ("--out", "m", "--overwrite", "--backbone", "toy", "--method", "clip-lora")
    assert call("fit", "photos", *model) == 0
    assert "epochs 3" in Path("m/README.md").read_text()
    assert call("fit", "photos", *model, "--set", "clip-lora.steps_per_shot=1") == 0
    card = Path("m/README.md").read_text()
    assert "steps_per_shot 1" in card
    assert "epochs 0" in card


def test_numbers_as_names_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paint(tmp_path / "d", {"0": (255, 0, 0), "1": (0, 0, 255)})
    (tmp_path / "names.csv").write_text("0,red\n1,blue\n")
    data, out = str(tmp_path / "d"), ("--out", str(tmp_path / "m"), "--backbone", "toy", *EPOCHS)
    assert call("fit", data, *out) == 0
    assert "class names such as '0', '1' say nothing to CLIP" in capsys.readouterr().out
    assert call("fit", data, *out, "--overwrite", "--names", str(tmp_path / "names.csv")) == 0
    assert "say nothing" not in capsys.readouterr().out
    assert cocoop.load(tmp_path / "m").classes_.tolist() == ["blue", "red"]


def test_all_unreadable_images_are_named_and_nothing_is_written(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in COLOURS:
        (photos / name / "9.png").write_text("no image")
        (photos / name / "8.jpg").write_bytes(b"")
    assert call("fit", "photos", "--out", "m", "--backbone", "toy", *EPOCHS) == 1
    shown = capsys.readouterr().err
    assert "image(s) under photos cannot be used" in shown
    assert shown.count("9.png: broken (it is no image") + shown.count("8.jpg: empty") >= 3
    assert "Traceback" not in shown
    assert not Path("m").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fit", "nothing", "--out", "m"], 2, "unknown dataset 'nothing'"),
        (["fit", "./nothing", "--out", "m"], 2, "no folder or table nothing"),
        (["fit", "photos", "--out", "photos"], 2, "something else than a model"),
        (["fit", "photos", "--out", "m", "--method", "cocop"], 2, "Did you mean 'cocoop'"),
        (["fit", "photos", "--out", "m", "--set", "coop.lr=1"], 2, "another method than cocoop"),
        (
            ["fit", "photos", "--out", "m", "--new-classes", "nw.txt"],
            2,
            "no file of names and no folder nw.txt",
        ),
        (["fit", "photos", "--out", "m", "--new-classes", "empty.txt"], 1, "holds no class names"),
        (["fit", "photos", "--out", "m", "--shots", "0"], 2, "shots"),
        (["predict", "nothing", "photos"], 1, "is no model folder"),
        (["predict", "MODEL", "*.gif"], 2, "no file, folder or match for *.gif"),
        (["predict", "MODEL", "bare"], 2, "no images in the folder bare"),
        (["predict", "MODEL", ""], 2, "empty name"),
        (["predict", "MODEL", "empty.txt"], 1, "none of the files"),
        (["predict", "MODEL", "photos", "--classes", " , "], 2, "has no names"),
        (["predict", "MODEL", "photos", "--classes", "a", "--classes-file", "x"], 2, "not both"),
        (["predict", "MODEL", "photos", "--classes-file", "empty.txt"], 1, "holds no class names"),
        (["predict", "MODEL", "photos", "--min-confidence", "2"], 2, "min-confidence"),
        (["evaluate", "MODEL", "photos", "--split", "tset"], 2, "Did you mean 'test'"),
        (["evaluate", "MODEL", "photos", "--split", "val"], 2, "'val' of photos has no images"),
        (["explain", "MODEL", "--image", "gone.png"], 1, "cannot read the image"),
        (["features", "photos", "--out", "f.csv"], 2, "must end in .parquet"),
    ],
)
def test_wrong_calls(
    arguments: list[str],
    code: int,
    words: str,
    photos: Path,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("empty.txt").write_text("\n")
    Path("bare").mkdir()
    assert call(*[str(trained) if word == "MODEL" else word for word in arguments]) == code
    shown = capsys.readouterr().err
    assert words in shown.replace("\n", " ")
    assert "Traceback" not in shown


def test_predictions_are_written_for_programs(
    photos: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("predict", str(trained), "photos", "--format", "csv", "--top-k", "2") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 9
    assert list(rows[0]) == ["path", "name", "name_1", "probability_1", "name_2", "probability_2"]
    assert (
        call("predict", str(trained), "photos", "photos/red/*.png", "--format", "json", "--top-k", "9") == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert [each["path"] for each in found] == [row["path"] for row in rows]  # each file once
    assert [each["name"] for each in found] == [row["name"] for row in rows]
    assert sum(each["probability"] for each in found[0]["top"]) == pytest.approx(1, abs=1e-4)
    assert [each["name"] for each in found] == cocoop.load(trained).predict(
        [each["path"] for each in found]
    ).tolist()


def test_approximate_answers_say_so(photos: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", str(trained), "photos", "--format", "json"]
    assert call(*words) == 0
    assert "testing" not in json.loads(capsys.readouterr().out)[0]
    assert call(*words, "--testing", "linear") == 0
    shown = capsys.readouterr()
    assert {each["testing"] for each in json.loads(shown.out)} == {"linear"}
    assert "linear: all probabilities are approximations" in shown.err
    assert call("evaluate", str(trained), "photos", "--out", "e", "--testing", "linear") == 0
    assert "Logits are linear in the hidden vector: an approximation, off by" in capsys.readouterr().out
    values = json.loads(Path("e/metrics.json").read_text())
    assert values["testing"] == "linear"
    assert values["approximation"]["images"] == 3
    assert call(*words, "--testing", "rough") == 2
    assert "unknown testing mode 'rough'" in capsys.readouterr().err


def test_bad_files_are_reported_and_skipped(
    photos: Path, trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoop.estimator.predict.BATCH", 2)  # also where a whole batch is bad
    for name in ("a.png", "b.png"):
        Path("photos/blue", name).write_text("no image")
    assert call("predict", str(trained), "photos", "--format", "json") == 0
    out, shown = capsys.readouterr()
    assert len(json.loads(out)) == 9
    assert shown.count("skipped: cannot read the image photos/blue/") == 2
    assert "2 of 11 files were skipped" in shown


def test_unsure_answers(photos: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("--classes", "red,red,crimson,scarlet", "--min-confidence", "0.999")
    assert call("predict", str(trained), "photos/red/0.png", *names) == 0
    assert "photos/red/0.png  unsure  (" in capsys.readouterr().out
    assert call("predict", str(trained), "photos/red/0.png", *names, "--format", "json") == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["name"] is None
    assert len(answer["top"]) == 3


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\nx", "＝1"])
def test_no_formula_reaches_a_spreadsheet(text: str) -> None:
    lines = "".join(as_csv(iter([Prediction(text, ((text, 0.5),), True)]), 1))
    (row,) = csv.DictReader(io.StringIO(lines, newline=""))
    assert row["path"] == row["name"] == row["name_1"] == f"'{text}"
    (answer,) = json.loads("".join(as_json(iter([Prediction(text, ((text, 0.5),), True)]))))
    assert answer["name"] == text


def test_evaluate(photos: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", str(trained), "photos", "--out", "e") == 0
    shown = capsys.readouterr().out
    assert "macro F1" in shown
    assert "calibration error" in shown
    values = json.loads(Path("e/metrics.json").read_text())
    facts = cocoop.load(trained).info_.results[0]
    assert values["cocoop"]["correct"] == facts.trained  # the same images were held out from fit
    assert values["zero-shot"]["correct"] == facts.zeroshot
    confusion = pd.read_csv("e/confusion.csv", index_col="class")
    assert confusion.to_numpy().sum() == 3
    assert list(confusion.columns) == ["blue", "green", "red"]
    assert set(pd.read_csv("e/per_class.csv")["class"]) == {"blue", "green", "red"}
    with Image.open("e/confusion.png") as picture:
        assert picture.size[0] > 300


def test_per_class_values() -> None:
    confusion = torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    frame = per_class(confusion, ["a", "b", "c"]).set_index("class")
    assert frame.loc["a", ["images", "correct", "recall", "precision"]].tolist() == [4, 3, 0.75, 1.0]
    assert (frame.loc["a", "taken_for"], frame.loc["a", "times"]) == ("b", 1)
    assert frame.loc["b", "precision"] == pytest.approx(2 / 3)
    assert frame.loc["b", "f1"] == pytest.approx(0.8)
    assert pd.isna(frame.loc["c", "recall"])
    assert frame.loc["c", "taken_for"] == ""


def test_explain(photos: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("explain", str(trained), "--image", "photos/red/0.png", "--words", "2") == 0
    shown = capsys.readouterr().out
    assert "photo" in shown
    assert "for this image the Meta-Net moves every vector by" in shown
    assert "without the shift: " in shown
    for method, words in {
        ("--method", "coop", "--set", "coop.ctx_init=null"): "random",
        ("--method", "coop", "--set", "coop.class_specific=true"): "vectors of each class",
        ("--method", "zeroshot"): "learns no context vectors",
    }.items():
        epochs = () if "zeroshot" in method else EPOCHS
        made = ("--out", "m", "--overwrite", "--backbone", "toy")
        assert call("fit", "photos", *made, *epochs, *method) == 0
        assert call("explain", "m") == 0
        assert words in capsys.readouterr().out
    assert call("fit", "photos", *made, "--method", "coop", *EPOCHS) == 0
    assert call("explain", "m", "--image", "photos/red/0.png") == 2
    assert "the same vectors for all images" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("method", "words"),
    [("dept-cocoop", "moves every vector by"), ("atprompt-cocoop", "moves the last 2 vectors by")],
)
def test_explain_methods_on_cocoop(
    method: str, words: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ("--out", "m", "--backbone", "toy", "--method", method, "--set", f"{method}.epochs=1")
    assert call("fit", "photos", *made) == 0
    assert call("explain", "m", "--image", "photos/red/0.png") == 0
    assert f"for this image the Meta-Net {words}" in capsys.readouterr().out


def test_the_nearest_word_to_a_word_is_itself(toy: cocoop.Backbone) -> None:
    near = nearest_words(toy, toy.embed_words("a photo of unbelievab"), 3)
    assert [words[0].text for words in near][:3] == ["a", "photo", "of"]
    assert all(words[0].distance == 0 < words[1].distance for words in near)
    assert near[3][0].text.endswith("-")  # a piece of a word


def test_features(photos: Path, toy: cocoop.Backbone) -> None:
    assert call("features", "photos", "--out", "f.parquet", "--backbone", "toy") == 0
    table = pq.read_table("f.parquet")
    assert table.schema.metadata[b"weights"].decode() == toy.weights_digest
    frame = table.to_pandas()
    assert sorted(frame["path"]) == sorted(f"{name}/{i}.png" for name in COLOURS for i in range(3))
    assert set(frame["split"]) == {"train", "test"}
    data = open_dataset("photos")
    first = frame[frame["path"] == data.items("test")[0].path]["feature"].item()
    expected = CoCoOp(toy).features([data.root / data.items("test")[0].path])[0]
    np.testing.assert_allclose(np.array(first), (expected / expected.norm()).numpy(), rtol=1e-5)


def test_own_data_are_datasets_of_run(photos: Path) -> None:
    quick = ("--methods", "zeroshot", "--backbone", "toy", "--seeds", "0")
    assert call("run", "base-to-new", "--datasets", "./photos,emoji/food", *quick, "--dry-run") == 0
    assert call("run", "base-to-new", "--datasets", "photos", *quick, "--out", "runs") == 0
    assert len(list(Path("runs/records").rglob("*.json"))) == 2
    assert call("run", "base-to-new", "--datasets", "./gone", *quick, "--out", "runs") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "ray"], "give their folder: --out DIR"),
        (["--engine", "spark", "--out", "o"], "--engine is ray or ray:ADDRESS, not 'spark'"),
        (["--workers", "2"], "--workers goes with --engine ray"),
        (["--out", "o"], "--out goes with --engine ray"),
    ],
)
def test_options_of_an_engine_go_together(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("predict", "model", "photos", *words) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_fit_enters_few_rooms(photos: Path) -> None:
    """From the command to a saved model: packages of cocoop whose modules are loaded on the way."""
    command = ["fit", "photos", "--out", "m", "--backbone", "toy", "--epochs", "1"]
    code = (
        f"import sys; from cocoop.cli import main\ntry: main({command})\nexcept SystemExit: pass\n"
        "print(*{name.split('.')[1] for name in sys.modules if name.startswith('cocoop.')})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = set(done.stdout.splitlines()[-1].split()) - {"errors"}  # one module, not a room
    assert Path("m/model.json").exists()
    assert rooms == {"cli", "estimator", "training", "methods", "text", "backbones", "data", "utils"}
