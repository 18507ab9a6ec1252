"""Models that see test images, as classifiers of one's own: asked for many files, measured, and refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import cocoop
from cocoop import Backbone, PromptClassifier, UsageError
from cocoop.data import open_dataset
from cocoop.deploy.onnx.graph import to_onnx
from cocoop.deploy.serve.answers import SideBySide
from cocoop.estimator import predict as predicting
from cocoop.estimator.evaluate import evaluate
from cocoop.estimator.explain import explain
from cocoop.estimator.fit import FitOptions, fit
from cocoop.estimator.many import Job, run_here
from cocoop.methods import METHODS
from tests.estimator.test_estimator import painted

IMAGES, LABELS = painted(3)
SEES = [name for name in METHODS.names() if METHODS.get(name).facts.sees_test_images]
QUIET = Console(quiet=True)


def model(name: str, clip: Backbone) -> PromptClassifier:
    facts, settings = METHODS.get(name).facts, {"looks": 3} if name not in ("transclip", "tda") else {}
    settings = {} if facts.adapts_to == "whole set" else settings
    epochs = 1 if facts.training == "steps" else None
    return PromptClassifier(name, clip, settings=settings, epochs=epochs).fit(IMAGES, LABELS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    for number, image in enumerate(IMAGES):
        image.save(folder / f"{number}.png")
    return sorted(folder.glob("*.png"))


def predicted(model: PromptClassifier, files: list[Path]) -> np.ndarray:
    rows = predicting.predict(model, files, None, 3, 0.0, QUIET)
    chances = [dict(each.top) for each in rows]
    return np.array([[each[name] for name in model.classes_] for each in chances])


@pytest.mark.parametrize("name", SEES)
def test_files_are_answered_as_images_are(
    name: str, toy: Backbone, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = model(name, toy)
    monkeypatch.setattr(predicting, "BATCH", 4)  # fewer than there are files
    expected = asked.predict_proba([str(path) for path in files])
    np.testing.assert_allclose(predicted(asked, files), expected, rtol=1e-3, atol=1e-5)
    alone = np.concatenate([asked.predict_proba([str(path)]) for path in files])
    apart = METHODS.get(name).facts.adapts_to == "views"
    assert np.allclose(alone, expected, rtol=1e-3, atol=1e-5) == apart


def test_a_file_that_cannot_be_read_is_skipped_in_a_stream_too(
    toy: Backbone, files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    asked = model("tda", toy)
    rows = predicted(asked, [files[0], tmp_path / "bad.png", *files[1:]])
    np.testing.assert_allclose(rows, predicted(asked, files))


@pytest.mark.parametrize("name", SEES)
def test_they_are_neither_exported_nor_served(name: str, toy: Backbone) -> None:
    asked = model(name, toy)
    with pytest.raises(UsageError, match="which a fixed graph cannot; use cocoop predict"):
        to_onnx(toy, asked.classifier())
    with pytest.raises(UsageError, match=r"mine: .* adapts itself to .* Use cocoop predict for it"):
        SideBySide({"mine": asked})


@pytest.mark.parametrize("name", ["mta", "tda", "transclip"])
def test_pieces_are_refused_before_anything_is_written(name: str, toy: Backbone, tmp_path: Path) -> None:
    model(name, toy).save(tmp_path / "m")
    with pytest.raises(UsageError, match="pieces are answered by one view of each image; use cocoop predict"):
        run_here(Job(tmp_path / "m"), [], tmp_path / "answers")
    assert not (tmp_path / "answers").exists()


def test_features_of_one_view_are_refused_where_several_are_looked_at(toy: Backbone) -> None:
    asked = model("mta", toy)
    with pytest.raises(UsageError, match=r"MTA looks at 3 view\(s\) of every image, not at 1"):
        asked.logits(asked.features(IMAGES))


@pytest.mark.parametrize("name", ["tpt-coop", "tda", "transclip-few-shot"])
def test_it_is_fitted_measured_and_evaluated(name: str, toy: Backbone, tmp_path: Path) -> None:
    for number, (image, label) in enumerate(zip(IMAGES * 2, LABELS * 2, strict=True)):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image)).save(folder / f"{number}.png")
    settings = {"looks": 3} if name == "tpt-coop" else {}
    params = {"method": name, "backbone": toy, "settings": settings}
    params |= {"epochs": 1} if name == "tpt-coop" else {}
    photos = str(tmp_path / "photos")
    made = fit(FitOptions(photos, tmp_path / "m", 16, None, None, None, params), QUIET)
    (result,) = made.info_.results
    again = cocoop.load(tmp_path / "m", toy)
    card = (tmp_path / "m" / "README.md").read_text()
    assert f"adapts itself to {METHODS.get(name).facts.adaptation}, without labels." in card
    evaluate(again, open_dataset(photos), "test", tmp_path / "evaluation", QUIET)
    written = (tmp_path / "evaluation" / "metrics.json").read_text()
    assert f'"correct": {result.trained}' in written
    assert result.images == len(open_dataset(photos).items("test"))


def test_the_context_of_an_image_is_explained_before_it_is_tuned(toy: Backbone, files: list[Path]) -> None:
    console = Console(record=True, width=200)
    explain(model("tpt-cocoop", toy), files[0], 2, console)
    assert "with it: " in console.export_text()


def test_looks_are_those_of_the_seed(toy: Backbone) -> None:
    first, again, other = (
        PromptClassifier("mta", toy, settings={"looks": 3}, seed=seed).fit(IMAGES, LABELS)
        for seed in (1, 1, 2)
    )
    looks = [each.looks(IMAGES[:2]) for each in (first, again, other)]
    assert looks[0].shape == (2, 3, toy.embed_dim)
    assert torch.equal(looks[0], looks[1])
    torch.testing.assert_close(looks[0][:, 0], looks[2][:, 0])
    assert not torch.allclose(looks[0][:, 1:], looks[2][:, 1:])
