"""Classifiers of several classes an image: scores, thresholds, measures, and every command with them."""

import csv
import io
import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from rich.console import Console
from sklearn.base import clone
from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

import cocoop
from cocoop import CoCoOp, CocoopError, CoOp, PromptClassifier, UsageError, ZeroShot
from cocoop.deploy.onnx.export import export
from cocoop.estimator.many import Job
from cocoop.estimator.multilabel import best_threshold, cross_tuned, halves, measure, tuned, untuned
from tests.cli.test_cli import call
from tests.conftest import make_tower

COLOURS = {"blue": (30, 40, 200), "green": (30, 180, 40), "red": (200, 30, 30)}
NAMES = list(COLOURS)
SUBSETS = [each for size in range(3) for each in combinations(NAMES, size)]  # none, one or two


def painted(count: int = 4, seed: int = 0) -> tuple[list[Image.Image], list[list[str]]]:
    """Images of as many stripes as they have classes, grey where they have none, and the classes of each."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for names in SUBSETS:
        for _ in range(count):
            stripes = [COLOURS[name] for name in rng.permutation(names)] or [(128, 128, 128)]
            pixels = np.repeat(np.array(stripes), 32 // len(stripes), axis=0)[None].repeat(32, 0)
            noisy = np.clip(pixels + rng.integers(-20, 20, pixels.shape), 0, 255)
            images.append(Image.fromarray(noisy.astype(np.uint8)))
            labels.append(list(names))
    return images, labels


@pytest.fixture(scope="module")
def fitted() -> PromptClassifier:
    images, labels = painted()
    return CoOp("tiny-clip", epochs=30, settings={"lr": 0.02, "batch_size": 7}).fit(images, labels)


@pytest.fixture(scope="module")
def calibrated(fitted: PromptClassifier, tmp_path_factory: pytest.TempPathFactory) -> PromptClassifier:
    folder = tmp_path_factory.mktemp("model") / "m"
    fitted.save(folder)
    return cocoop.load(folder).calibrate(*painted(6, seed=1))


# scores, thresholds and measures


def drawn(n: int = 3000, temperature: float = 2.5, bias: float = -0.7) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of three classes, and which an image has, drawn from scores of a known temperature and bias."""
    rng = np.random.default_rng(0)
    logits = torch.as_tensor(rng.normal(0, 4, (n, 3))).float()
    shares = torch.sigmoid((logits + OFFSETS) / temperature + bias)
    return logits, torch.as_tensor(rng.random((n, 3))) < shares


OFFSETS = torch.tensor([-1.0, 0.0, 2.0])


def test_temperature_and_bias_are_found_again() -> None:
    logits, truth = drawn()
    found = tuned(untuned(NAMES, OFFSETS), logits, truth)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.bias == pytest.approx(-0.7, abs=0.05)
    assert found.error_before is not None
    assert found.error_after is not None
    assert found.error_before > 0.05 > 0.02 > found.error_after


def test_logits_that_tell_nothing_keep_their_order() -> None:
    """A negative slope would say that the likelier class is the less likely one."""
    logits, truth = drawn()
    found = tuned(untuned(NAMES, OFFSETS), -logits, truth)
    assert found.temperature == 1.0
    scores = found.scores((-logits).sort(0).values, NAMES)
    assert (scores.diff(dim=0) >= 0).all()


def test_the_threshold_of_the_highest_f1() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = torch.as_tensor(rng.random(30) < 0.3)
        truth[0] = True
        scores = torch.as_tensor(np.round(rng.random(30) * 0.6 + 0.3 * truth.numpy(), 2)).float()

        def f1(limit: float, scores: torch.Tensor = scores, truth: torch.Tensor = truth) -> float:
            answers = scores >= limit
            return float(2 * (answers & truth).sum() / (answers.sum() + truth.sum()))

        limit = best_threshold(scores, truth)
        assert f1(limit) == pytest.approx(max(f1(each) for each in scores.tolist()))
        assert limit not in scores.tolist()  # half way: a score computed once more is on the same side


def test_classes_of_few_images_have_the_threshold_of_all() -> None:
    logits, truth = drawn(200)
    truth[:, 2] = False
    truth[:9, 2] = True
    found = tuned(untuned(NAMES, OFFSETS), logits, truth)
    assert found.thresholds[2] == found.threshold
    assert found.thresholds[0] != found.threshold
    assert found.thresholds_of(["red", "never seen"]).tolist() == pytest.approx([found.threshold] * 2)
    assert found.offsets_of(["never seen"]).item() == pytest.approx(1 / 3)


def test_no_image_is_answered_by_thresholds_that_it_chose() -> None:
    logits, truth = drawn(100)
    found = untuned(NAMES, OFFSETS)
    answers = cross_tuned(found, logits, truth)
    for one, other in halves(100):
        by = tuned(found, logits[other], truth[other])
        assert torch.equal(answers[one], by.passing(by.scores(logits[one], NAMES), NAMES))
    assert sorted(torch.cat(halves(5)[0]).tolist()) == list(range(5))


def test_measures_are_those_of_torchmetrics() -> None:
    logits, truth = drawn(100)
    scores, answers = torch.sigmoid(logits), logits > 1
    found = measure(scores, truth, answers)
    average = multilabel_average_precision(scores, truth.int(), 3)
    assert found.mean_average_precision == pytest.approx(float(average))
    assert found.micro_f1 == pytest.approx(
        float(multilabel_f1_score(answers.int(), truth.int(), 3, average="micro"))
    )
    assert found.macro_f1 == pytest.approx(
        float(multilabel_f1_score(answers.int(), truth.int(), 3, average="macro"))
    )
    truth[:, 0] = answers[:, 0] = False  # neither there nor answered: no class of these images
    rest = measure(scores[:, 1:], truth[:, 1:], answers[:, 1:])
    assert measure(scores, truth, answers) == rest
    assert measure(scores, truth, None).macro_f1 is None
    with pytest.raises(CocoopError, match="none of the test images has a class"):
        measure(scores, torch.zeros_like(truth), None)


@pytest.mark.parametrize("truth", [torch.zeros(4, 3), torch.ones(4, 3)])
def test_images_that_are_all_alike_calibrate_nothing(truth: torch.Tensor) -> None:
    with pytest.raises(CocoopError, match="some have a class, and some not"):
        tuned(untuned(NAMES, OFFSETS), torch.randn(4, 3), truth.bool())


# Python


def test_fit_predict_and_score(fitted: PromptClassifier, calibrated: PromptClassifier) -> None:
    images, labels = painted(4, seed=2)
    assert fitted.classes_.tolist() == NAMES
    scores = calibrated.predict_proba(images)
    assert scores.shape == (28, 3)
    assert scores.sum(1).max() > 1.2  # they are no probabilities of one class out of three
    found = calibrated.predict(images)
    assert {type(each) for each in found} == {tuple}
    exact = np.mean([set(one) == set(other) for one, other in zip(found, labels, strict=True)])
    assert calibrated.score(images, labels) == exact > 0.5
    zero = ZeroShot("tiny-clip").fit(*painted()).calibrate(*painted(6, seed=1))
    assert exact > zero.score(images, labels)
    for order, row in zip(found, scores, strict=True):
        assert [row[NAMES.index(name)] for name in order] == sorted(
            (row[NAMES.index(n)] for n in order), reverse=True
        )


def test_none_of_the_classes_is_an_answer(calibrated: PromptClassifier) -> None:
    images, _ = painted(6, seed=3)
    plain, said = calibrated.predict(images), calibrated.predict(images, unknown="nothing")
    assert () in plain[:6].tolist()  # the grey ones
    assert [each or ("nothing",) for each in plain] == said.tolist()


def test_scores_are_independent_of_the_other_names(calibrated: PromptClassifier) -> None:
    images, _ = painted(1, seed=3)
    whole = calibrated.predict_proba(images)
    np.testing.assert_allclose(calibrated.predict_proba(images, ["red"])[:, 0], whole[:, 2], rtol=1e-4)
    more = calibrated.predict_proba(images, ["violin", "green", "red", "a grey square"])
    np.testing.assert_allclose(more[:, 1:3], whole[:, 1:], rtol=1e-4)


def test_a_model_folder_keeps_all_of_it(calibrated: PromptClassifier, tmp_path: Path) -> None:
    images, _ = painted(1, seed=4)
    calibrated.save(tmp_path / "m")
    loaded = cocoop.load(tmp_path / "m")
    assert loaded.info_.multilabel == calibrated.info_.multilabel
    np.testing.assert_array_equal(loaded.predict_proba(images), calibrated.predict_proba(images))
    card = (tmp_path / "m" / "README.md").read_text()
    assert "An image may have several of its classes, or none" in card
    assert "multi-label-classification" in card


def test_before_it_is_calibrated_the_scores_are_those_of_the_training(fitted: PromptClassifier) -> None:
    images, _ = painted()
    info = fitted.info_.multilabel
    assert info
    assert (info.temperature, info.bias, info.thresholds, info.images) == (1.0, 0.0, [0.5] * 3, 0)
    logits = fitted.logits(fitted.features(images))
    np.testing.assert_allclose(
        fitted.predict_proba(images), torch.sigmoid(logits + torch.tensor(info.offsets)).numpy(), rtol=1e-5
    )
    assert fitted.info_.recipe
    assert fitted.info_.recipe["augmentation"] == "mirror"
    assert fitted.info_.loss[-1] < fitted.info_.loss[0]
    assert clone(fitted).get_params() == fitted.get_params()


def test_unknown_images_calibrate_too(fitted: PromptClassifier) -> None:
    images, labels = painted(6, seed=1)
    known = [image for image, each in zip(images, labels, strict=True) if each]
    model = CoOp("tiny-clip", epochs=1).fit(*painted(1))
    model.calibrate(known, [each for each in labels if each], unknown=images[:6])
    assert model.info_.multilabel
    assert (model.info_.multilabel.images, model.info_.multilabel.unknown) == (42, 6)
    both = (
        CoOp("tiny-clip", epochs=1).fit(*painted(1)).calibrate(known + images[:6], [*labels[6:], *labels[:6]])
    )
    assert both.info_.multilabel
    assert both.info_.multilabel.temperature == pytest.approx(model.info_.multilabel.temperature, rel=1e-4)


@pytest.mark.parametrize("kind", [CoCoOp, ZeroShot])
def test_other_methods(kind: type) -> None:
    images, labels = painted(1)
    model = kind("toy", **({} if kind is ZeroShot else {"epochs": 1})).fit(
        images, [set(each) for each in labels]
    )
    assert model.predict_proba(images).shape == (7, 3)
    assert model.testing_mode(10**6) == "exact"


def test_a_method_that_learns_inside_the_image_tower() -> None:
    images, labels = painted(1)
    clip = make_tower("clip-gelu-deep", torch.float32)
    model = PromptClassifier("vpt", clip, epochs=1, settings={"batch_size": 7}).fit(images, labels)
    info = model.info_.multilabel
    assert info
    answers = model.answers(model.looks(images))
    np.testing.assert_allclose(
        model.predict_proba(images), info.scores(answers.logits, NAMES).numpy(), rtol=1e-4, atol=1e-6
    )


def test_labels_that_are_no_lists_beside_lists(calibrated: PromptClassifier) -> None:
    images, labels = painted(1)
    with pytest.raises(UsageError, match=r"the label 'red' is no list.*or each one name"):
        CoOp("toy").fit(images[:2], ["red", ["green"]])
    with pytest.raises(UsageError, match="the label 'red' is no list"):
        calibrated.calibrate(images[:1], ["red"])
    with pytest.raises(UsageError, match="of classes without training images: 'violin'"):
        calibrated.calibrate(images[:1], [["violin"]])
    with pytest.raises(UsageError, match="one class here, not several"):
        CoOp("toy", epochs=1).fit(images[:2], ["red", "green"]).calibrate(images[:1], [["red"]])
    with pytest.raises(UsageError, match="none of the images has a class"):
        CoOp("toy").fit(images[:2], [[], []])
    with pytest.raises(UsageError, match="KgCoOp takes no images of several classes: its own loss"):
        PromptClassifier("kgcoop", "toy").fit(images, labels)
    with pytest.raises(UsageError, match="only the likeliest classes would be exact"):
        CoCoOp("toy", epochs=1, testing="screened").fit(images, labels).predict(images)


# commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of lists, and a model that `cocoop fit` made of it."""
    root = tmp_path_factory.mktemp("commands")
    images, labels = painted(12, seed=5)
    rows = []
    for place, (image, each) in enumerate(zip(images, labels, strict=True)):
        image.save(root / f"{place}.png")
        rows.append(json.dumps({"path": f"{place}.png", "label": each}) + "\n")
    (root / "data.jsonl").write_text("".join(rows))
    quick = ("--method", "coop", "--epochs", "20", "--set", "coop.lr=0.02", "--set", "coop.batch_size=7")
    assert (
        call("fit", str(root / "data.jsonl"), "--backbone", "tiny-clip", "--out", str(root / "m"), *quick)
        == 0
    )
    return root


def test_fit_says_what_it_is_worth(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = ("--backbone", "tiny-clip", "--method", "zeroshot", "--out", str(folder / "z"), "--overwrite")
    assert call("fit", str(folder / "data.jsonl"), *again) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 classes, 45 images to learn from, 25 held out" in shown
    assert "mAP ┃ micro F1 ┃ macro F1" in shown
    assert "each half of the images by thresholds chosen on the other half" in shown
    info = cocoop.load(folder / "m").info_.multilabel
    assert info
    (result,) = info.results
    assert result.trained.mean_average_precision > result.zeroshot.mean_average_precision
    assert info.images >= 20
    assert not cocoop.load(folder / "m").info_.results


def test_predict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(folder / f"{place}.png") for place in (0, 13, 80)]
    found = cocoop.load(folder / "m").predict(files)
    assert call("predict", str(folder / "m"), *files, "--format", "json", "--top-k", "2") == 0
    answers = json.loads(capsys.readouterr().out)
    assert [tuple(each["names"]) for each in answers] == list(found)
    assert [set(each) for each in answers[0]["top"]] == [{"name", "score"}] * 2
    assert call("predict", str(folder / "m"), *files, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == [
        "path",
        "names",
        *(f"{what}_{n}" for n in (1, 2, 3) for what in ("name", "score")),
    ]
    assert [tuple(filter(None, row["names"].split("|"))) for row in rows] == list(found)
    assert call("predict", str(folder / "m"), *files, "--min-confidence", "0.99999") == 0
    shown = capsys.readouterr().out
    assert "%" not in shown
    assert shown.count("none of these") == 3
    assert call("predict", str(folder / "m"), files[0], "--min-confidence", "0", "--similarity") == 0
    assert " ".join(sorted(NAMES)) == " ".join(sorted(capsys.readouterr().out.split("  ")[1].split(", ")))


def test_names_with_bars_are_no_csv(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "names.txt").write_text("red|green\n")
    rows = [json.dumps({"path": f"{place}.png", "label": ["a|b"] * (place % 2)}) for place in range(8)]
    rows += [
        json.dumps({"path": "9.png", "label": ["a|b", "c"]}),
        json.dumps({"path": "8.png", "label": ["c"]}),
    ]
    (folder / "bars.jsonl").write_text("\n".join(rows))
    model = str(folder / "bars")
    assert (
        call("fit", str(folder / "bars.jsonl"), "--backbone", "toy", "--method", "zeroshot", "--out", model)
        == 0
    )
    assert "Scores are not calibrated, and thresholds are 0.5" in capsys.readouterr().out
    assert call("predict", model, str(folder / "0.png"), "--format", "csv") == 2
    assert "'a|b' has a |" in capsys.readouterr().err
    assert call("predict", model, str(folder / "0.png"), "--format", "json") == 0


def test_evaluate(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "e"
    asked = ("evaluate", str(folder / "m"), str(folder / "data.jsonl"), "--out", str(out))
    assert call(*asked, "--unknown", "emoji/activities") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Thresholds were chosen on" in shown
    values = json.loads((out / "metrics.json").read_text())
    assert set(values["zero-shot"]) == {"mean_average_precision"}
    assert set(values["coop"]) >= {"mean_average_precision", "micro_f1", "macro_f1", "all_right"}
    assert values["unknown"]["images"] > values["unknown"]["answered"]
    rows = {row["class"]: row for row in csv.DictReader(io.StringIO((out / "per_class.csv").read_text()))}
    data = cocoop.open_dataset(str(folder / "data.jsonl"), multilabel=True)
    held = [data.names_of(item) for item in data.items("test")]
    assert {name: int(rows[name]["images"]) for name in NAMES} == {
        name: sum(name in each for each in held) for name in NAMES
    }
    info = cocoop.load(folder / "m").info_.multilabel
    assert info
    assert [float(rows[name]["threshold"]) for name in NAMES] == pytest.approx(info.thresholds)


def test_like_is_evaluated_with_like(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("red", "blue"):
        for seed in range(4):
            path = tmp_path / "one" / name / f"{seed}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(seed).integers(0, 9, (12, 12, 3), dtype=np.uint8) + np.uint8(
                len(name)
            )
            Image.fromarray(pixels).save(path)
    one = str(tmp_path / "one")
    assert call("evaluate", str(folder / "m"), one, "--out", str(tmp_path / "e")) == 2
    assert "has one class an image, the model several" in " ".join(capsys.readouterr().err.split())
    assert call("evaluate", str(folder / "m"), one, "--labels", "several", "--out", str(tmp_path / "e")) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "auto"), "--method auto chooses by one class an image"),
        (("--method", "gda"), "takes no images of several classes: it is computed in closed form"),
        (("--new-classes", "emoji/food"), "--new-classes measures one class an image"),
        (("--unknown", "nowhere"), "neither a class of"),
        (("--unknown", "red"), "has others beside it"),
    ],
)
def test_options_of_one_class_an_image_are_refused(
    folder: Path, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (
        "fit",
        str(folder / "data.jsonl"),
        "--backbone",
        "toy",
        "--out",
        str(folder / "x"),
        "--method",
        "coop",
    )
    assert call(*asked, *options) in (1, 2)
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (folder / "x").exists()


def test_what_takes_one_class_an_image_refuses_the_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(folder / "data.jsonl")
    for asked in (
        ("run", "few-shot", "--datasets", data, "--backbone", "toy"),
        ("data", "export", data, "--out", str(folder / "x")),
    ):
        assert call(*asked) == 2
        assert "here an image must have one" in " ".join(capsys.readouterr().err.split())


def test_unknown_as_a_class_or_as_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    other = [{**row, "label": row["label"] or ["other"]} for row in rows]
    (folder / "other.jsonl").write_text("\n".join(map(json.dumps, other)))
    quick = ("--backbone", "toy", "--method", "zeroshot", "--overwrite", "--out", str(folder / "u"))
    assert call("fit", str(folder / "other.jsonl"), *quick, "--unknown", "other") == 0
    assert cocoop.load(folder / "u").classes_.tolist() == NAMES
    assert call("fit", str(folder / "data.jsonl"), *quick, "--unknown", "emoji/activities") == 0
    assert "of them of none of the classes" in capsys.readouterr().out


def test_a_dry_run_and_a_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(folder / "data.jsonl")
    assert call("fit", data, "--backbone", "toy", "--out", str(folder / "x"), "--dry-run") == 0
    assert "nothing was trained or written" in capsys.readouterr().out
    assert call("data", "check", data) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "which may have several classes: 12 of none, 36 of 1, 36 of 2" in shown
    assert call("features", data, "--backbone", "toy", "--out", str(folder / "f.parquet")) == 0


def test_pieces_of_many_images(folder: Path) -> None:
    job = Job(folder / "m")
    views = torch.stack([job.clip.preprocess.test(Image.open(folder / f"{n}.png")) for n in (0, 13, 80)])
    columns = job.columns(views)
    assert set(columns) == {"labels", "names", "scores"} < set(job.schema().names)
    found = cocoop.load(folder / "m").predict([folder / f"{n}.png" for n in (0, 13, 80)])
    assert [tuple(each) for each in columns["labels"]] == list(found)


def test_the_export_says_the_same(folder: Path, tmp_path: Path) -> None:
    model = cocoop.load(folder / "m")
    export(model, None, tmp_path / "x", Console(quiet=True))
    files = [folder / f"{n}.png" for n in (0, 13, 80)]
    session = onnxruntime.InferenceSession(tmp_path / "x" / "model.onnx")
    assert [each.name for each in session.get_outputs()] == ["scores"]
    views = np.stack([model.load_backbone().preprocess.test(Image.open(path)).numpy() for path in files])
    np.testing.assert_allclose(session.run(None, {"images": views})[0], model.predict_proba(files), atol=1e-5)
    spec = json.loads((tmp_path / "x" / "export.json").read_text())
    assert model.info_.multilabel
    assert spec["thresholds"] == pytest.approx(model.info_.multilabel.thresholds)
    run = [sys.executable, str(tmp_path / "x" / "run.py"), *map(str, files)]
    lines = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    for line, names in zip(lines, model.predict(files), strict=True):
        said = [each.rpartition(" ")[0] for each in line.split("\t")[1:]]
        assert said == (list(names) or ["none of"])
