"""Temperatures and thresholds: equal to plain references, right where the answer is known, kept and shown."""

import csv
import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import cocoop
from cocoop import CoOp, UsageError, ZeroShot, open_dataset
from cocoop.data.export import export as export_data
from cocoop.deploy.onnx.export import export
from cocoop.deploy.onnx.graph import ImageClassifier
from cocoop.estimator.calibration import (
    SCORES,
    Answers,
    Score,
    calibrate,
    calibration_error,
    choose_threshold,
    separation,
    temperature_of,
    threshold_of,
)
from cocoop.estimator.evaluate import evaluate
from cocoop.estimator.fit import FitOptions, fit
from cocoop.estimator.folder import read_model
from cocoop.estimator.inputs import NotFittedError
from tests.cli.test_cli import call


def drawn(n: int = 4000, heat: float = 2.5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are too sure by a known temperature, and labels drawn from the true probabilities."""
    rng = np.random.default_rng(seed)
    true = torch.as_tensor(rng.normal(0, 2, (n, 5)))
    labels = [rng.choice(5, p=row) for row in true.softmax(1).numpy()]
    return true * heat, torch.tensor(labels)


def test_the_temperature_is_found_again() -> None:
    logits, labels = drawn()
    found = calibrate(logits, labels)
    assert found.temperature == pytest.approx(2.5, rel=0.06)
    assert found.before > 0.1 > 0.03 > found.after
    assert found.images == 4000


def test_a_temperature_that_does_not_help_is_not_taken() -> None:
    logits, labels = drawn(20, heat=1.0, seed=3)
    found = calibrate(logits, labels)
    assert (found.temperature, found.after) == (1.0, found.before)


def test_the_temperature_is_the_best_of_a_grid() -> None:
    logits, labels = drawn(60)

    def loss(heat: float) -> float:
        """Written out: minus the logarithm of the likelihood, and of a normal density of log temperature."""
        total = math.log(heat) ** 2 / (2 * 0.5**2)
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
            scaled = [value / heat for value in row]
            total += math.log(sum(math.exp(value) for value in scaled)) - scaled[label]
        return total

    best = min(np.exp(np.linspace(-2, 2, 801)), key=loss)
    assert temperature_of(logits, labels) == pytest.approx(best, rel=0.006)


def test_images_that_are_all_right_leave_some_doubt() -> None:
    logits = 3 * torch.eye(4, dtype=torch.float64).repeat(5, 1)
    assert 0.2 < temperature_of(logits, torch.arange(4).repeat(5)) < 3


def test_the_calibration_error_of_hand_made_answers() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert calibration_error(probabilities, torch.tensor([0, 0, 0, 1])) == pytest.approx(
        (0.1 * 2 + 0.1 * 2) / 4
    )


def test_the_scores_by_their_formulas() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0]], dtype=torch.float64)
    answers = Answers(logits, torch.tensor([[0.2, 0.3, 0.1]]))
    powers = [math.exp(value / 2) for value in (2.0, 1.0, -1.0)]
    assert answers.score("confidence", 2.0).item() == pytest.approx(powers[0] / sum(powers))
    energy = math.log(sum(math.exp(value) for value in (2.0, 1.0, -1.0)))
    assert answers.score("energy", 2.0).item() == pytest.approx(energy)
    assert answers.score("similarity", 2.0).item() == pytest.approx(0.3)


def test_auroc_and_false_positives_by_counting() -> None:
    rng = np.random.default_rng(0)
    known, others = torch.as_tensor(rng.normal(1, 1, 40)), torch.as_tensor(rng.normal(0, 1, 30))
    found = separation(known, others)
    pairs = [(a > b) + 0.5 * (a == b) for a in known.tolist() for b in others.tolist()]
    assert found.auroc == pytest.approx(sum(pairs) / len(pairs))
    value = threshold_of(known)
    assert sum(each >= value for each in known.tolist()) / 40 >= 0.95
    higher = min(each for each in known.tolist() if each > value)
    assert sum(each >= higher for each in known.tolist()) / 40 < 0.975
    assert found.fpr == pytest.approx(sum(each >= value for each in others.tolist()) / 30)
    assert separation(known, known).auroc == pytest.approx(0.5)


def test_the_score_that_tells_them_apart_is_chosen() -> None:
    rng = np.random.default_rng(1)
    flat = torch.as_tensor(rng.normal(0, 0.1, (40, 4)))
    near, far = torch.full((40, 4), 0.4), torch.full((30, 4), 0.2)
    known, others = Answers(flat, near), Answers(flat[:30], far)
    labels = torch.arange(4).repeat(10)
    found = choose_threshold(known, labels, list("abcd"), 1.0, others, "noise")
    assert (found.score, found.separations["similarity"].auroc, found.others) == ("similarity", 1.0, "noise")
    assert found.value == pytest.approx(0.4)
    away = choose_threshold(known, labels, list("abcd"), 1.0)
    assert set(away.separations) == set(SCORES)
    assert "names of their classes taken away" in away.others
    few = choose_threshold(Answers(flat[:, :2], near[:, :2]), labels % 2, ["a", "b"], 1.0)
    assert (few.separations, few.others, few.score) == ({}, "", "confidence")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    export_data(open_dataset("emoji/activities"), folder / "photos")
    return folder


@pytest.fixture(scope="module")
def model(photos: Path) -> Path:
    """Zero-shot CLIP on real drawings, with a class of them that stands for none."""
    params = {"method": "zeroshot", "backbone": "tiny-clip"}
    options = FitOptions(str(photos / "photos"), photos / "m", 16, None, None, None, params, unknown="violin")
    with pytest.raises(UsageError, match="neither a class of"):
        fit(options, Console(quiet=True))
    log = io.StringIO()
    fit(FitOptions(**{**vars(options), "unknown": "trophy"}), Console(file=log, width=200))
    assert "calibrated on 62 images that it did not learn from: temperature" in log.getvalue()
    assert "the images of trophy" in log.getvalue()
    return photos / "m"


def test_a_model_keeps_its_calibration(model: Path, photos: Path) -> None:
    info, _ = read_model(model)
    assert info.calibration is not None
    assert info.unknown is not None
    assert "trophy" not in info.prompt.class_names
    loaded = cocoop.load(model)
    data = open_dataset(str(photos / "photos"))
    paths = [data.root / item.path for item in data.items("val") if item.name != "trophy"]
    fimg = loaded.features(paths)
    expected = (loaded.logits(fimg) / info.calibration.temperature).softmax(1)
    np.testing.assert_allclose(loaded.predict_proba(paths), expected, atol=1e-6)
    sure = loaded.sure(fimg)
    assert sure is not None
    assert 0.94 < sure.double().mean() < 1
    names = loaded.predict(paths, unknown="none")
    assert ((names == "none") == ~sure.numpy()).all()
    assert (names[sure.numpy()] == loaded.predict(paths)[sure.numpy()]).all()
    others = ["soccer ball", "violin"]
    assert loaded.sure(fimg, others) is None
    with pytest.raises(UsageError, match="no threshold"):
        loaded.predict(paths, others, unknown="none")
    cosines = loaded.similarities(paths[:3], others)
    np.testing.assert_allclose(
        loaded.backbone_.logit_scale * cosines, loaded.logits(fimg[:3], others), rtol=1e-4
    )
    assert "calibrated on 62 held-out images" in (model / "README.md").read_text()


def test_unsure_is_shown_everywhere(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from starlette.testclient import TestClient

    from cocoop.deploy.serve.answers import SideBySide
    from cocoop.deploy.serve.app import make_app

    monkeypatch.chdir(photos)
    loaded = cocoop.load(model)
    paths = sorted(map(str, Path("photos/test").rglob("*.webp")))[:60]
    sure = loaded.sure(loaded.features(paths))
    assert sure is not None
    doubtful = [path for path, each in zip(paths, sure.tolist(), strict=True) if not each]
    assert doubtful
    assert call("predict", "m", doubtful[0]) == 0
    assert "  unsure  (" in capsys.readouterr().out
    assert call("predict", "m", *paths, "--format", "json") == 0
    assert [each["name"] is not None for each in json.loads(capsys.readouterr().out)] == sure.tolist()
    assert call("predict", "m", *paths, "--format", "csv") == 0
    assert [
        bool(row["name"]) for row in csv.DictReader(io.StringIO(capsys.readouterr().out))
    ] == sure.tolist()
    for chosen in (("--min-confidence", "0"), ("--classes", "soccer ball,violin")):
        assert call("predict", "m", *doubtful, *chosen) == 0
        assert "unsure" not in capsys.readouterr().out
    with TestClient(make_app(SideBySide({"m": loaded}), None)) as client:
        file = {"images": ("a.webp", Path(doubtful[0]).read_bytes())}
        assert client.post("/api/predict", files=file).json()["images"][0]["sure"] == {"m": False}
        assert "unsure: perhaps none of these" in client.post("/results", files=file).text
        names = {"classes": "violin"}
        answer = client.post("/api/predict", files=file, data=names).json()["images"][0]
        assert answer["sure"] == {"m": None}
        assert set(answer["answers"]["m"][0]) == {"name", "similarity"}


def test_evaluation_of_unknown_images(model: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded, data = cocoop.load(model), open_dataset("emoji/activities")
    out = photos / "e"
    food = open_dataset("emoji/food")
    unknown = replace(food, splits={"test": food.items("test")[:40]})
    evaluate(loaded, data, "val", out, Console(quiet=True), unknown)
    values = json.loads((out / "metrics.json").read_text())
    assert set(values["unknown"]["zeroshot"]) == set(SCORES)
    assert 0.5 < values["unknown"]["zeroshot"]["similarity"]["auroc"] <= 1
    assert values["zeroshot"]["calibration_error_before"] == pytest.approx(
        values["zero-shot"]["calibration_error"]
    )
    assert (out / "reliability.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="has classes that are to be known"):
        evaluate(loaded, data, "val", out, Console(quiet=True), data)


def fitted_toy() -> tuple[cocoop.PromptClassifier, list[Image.Image]]:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    images = [Image.fromarray(each) for each in pixels]
    return CoOp("toy", epochs=1).fit(images, ["cat", "dog"] * 2), images


@pytest.mark.parametrize("score", SCORES)
def test_the_exported_module_has_the_score(score: Score) -> None:
    model, images = fitted_toy()
    clip, classifier = model.load_backbone(), model.classifier()
    texts = classifier.encode(classifier.contexts(torch.zeros(1, clip.embed_dim)))
    views = torch.stack([clip.preprocess.test(image) for image in images])
    with torch.no_grad():
        chances, found = ImageClassifier(
            clip, classifier, lambda fimg: classifier.pair(fimg, texts), 2.0, score
        )(views)
    answers = model.answers(model.features(images))
    torch.testing.assert_close(found.double(), answers.score(score, 2.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(chances, (answers.logits / 2.0).softmax(1))


def test_the_exported_runner_says_unsure(tmp_path: Path) -> None:
    model, images = fitted_toy()
    answers = model.answers(model.features(images))
    model.calibrate(images, ["cat", "dog"] * 2)
    scores = answers.score("similarity").sort().values
    limit = model.info_.unknown.model_copy(update={"score": "similarity", "value": float(scores[1:3].mean())})
    model.info_ = model.info_.model_copy(update={"unknown": limit})
    export(model, None, tmp_path / "e", Console(quiet=True))
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    run = [sys.executable, str(tmp_path / "e" / "run.py"), *paths]
    lines = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    sure = model.sure(model.features(images))
    assert [line.split("\t")[1] == "unsure" for line in lines] == (~sure).tolist()
    assert sure.sum() == 2
    chances = model.predict_proba(images).max(1)
    assert [line.split("\t")[-2].split()[-1] for line in lines] == [f"{each:.1%}" for each in chances]


def test_few_images_calibrate_nothing(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    fitted = ZeroShot("toy").fit(images, ["cat", "dog"] * 2)
    assert fitted.temperature == 1
    assert fitted.sure(fitted.features(images)) is None
    with pytest.raises(UsageError, match="no threshold"):
        fitted.predict(images, unknown="none")
    with pytest.raises(UsageError, match="classes without training images: 'cow'"):
        fitted.calibrate(images, ["cow"] * 4)
    with pytest.raises(NotFittedError):
        ZeroShot("toy").calibrate(images, ["cat"] * 4)
    fitted.calibrate(images, ["cat", "dog"] * 2, unknown=images).save(tmp_path / "m")
    again = cocoop.load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict_proba(images), fitted.predict_proba(images))
    assert again.fit(images, ["cat", "dog"] * 2).info_.calibration is None
