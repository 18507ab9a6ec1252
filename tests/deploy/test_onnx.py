"""An exported model says what PyTorch says, without torch."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from rich.console import Console

import cocoop
from cocoop import CoCoOp, CocoopError, CoOp, UsageError
from cocoop.data.decode import to_image
from cocoop.deploy.onnx import graph, parity
from cocoop.deploy.onnx.export import export
from cocoop.deploy.onnx.parity import TOLERANCE, Parity, embedded_images
from cocoop.deploy.onnx.standalone import pixels
from tests.conftest import make_tower
from tests.estimator.test_estimator import painted

IMAGES, LABELS = painted(2)
NAMES = ["red apple", "red car", "violin", "teapot", "violin case"]
KINDS = {"cocoop": CoCoOp, "coop": CoOp}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[cocoop.PromptClassifier, Path]]:
    """Both kinds of graph: the text tower within, and a matrix of text features."""
    made = {}
    for name, kind in KINDS.items():
        model = kind("toy", epochs=1).fit(IMAGES, LABELS)
        folder = tmp_path_factory.mktemp(name) / "export"
        export(model, NAMES, folder, Console(quiet=True))
        made[name] = (model, folder)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 6])
def test_any_number_of_images(exported: dict, kind: str, count: int) -> None:
    model, folder = exported[kind]
    spec = json.loads((folder / "export.json").read_text())
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    views = [model.load_backbone().preprocess.test(image).numpy() for image in IMAGES[:count]]
    [probabilities] = session.run(None, {"images": np.stack(views)})
    np.testing.assert_allclose(probabilities, model.predict_proba(IMAGES[:count], NAMES), atol=TOLERANCE)
    assert spec["classes"] == NAMES
    assert spec["method"] == kind
    assert spec["parity"]["same"] == spec["parity"]["images"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_runner_needs_no_torch(exported: dict, kind: str, tmp_path: Path) -> None:
    model, folder = exported[kind]
    IMAGES[0].save(tmp_path / "a.png")
    code = f"import runpy, sys; sys.argv[1:] = [{str(tmp_path / 'a.png')!r}]; "
    code += (
        f"runpy.run_path({str(folder / 'run.py')!r}, run_name='__main__'); assert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    path, *best = shown.strip().split("\t")
    expected = model.predict_proba([IMAGES[0]], NAMES)[0]
    assert path == str(tmp_path / "a.png")
    assert best == [f"{NAMES[i]} {expected[i]:.1%}" for i in np.argsort(-expected)[:3]]


@pytest.mark.parametrize("name", ["clip-gelu-deep", "custom-text"])
def test_other_towers(name: str) -> None:
    clip = make_tower(name, torch.float32)
    model = CoCoOp(clip, epochs=1).fit(IMAGES, LABELS)
    session = onnxruntime.InferenceSession(graph.to_onnx(clip, model.classifier(NAMES)))
    views = np.stack([clip.preprocess.test(image).numpy() for image in IMAGES])
    [probabilities] = session.run(None, {"images": views})
    np.testing.assert_allclose(probabilities, model.predict_proba(IMAGES, NAMES), atol=TOLERANCE)


def _variants(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 255, (50, 71, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    colour.save(folder / "turned.jpg", exif=turned)
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.convert("P").save(folder / "palette.gif")
    Image.fromarray(rng.integers(0, 255, (33, 90, 4), dtype=np.uint8)).save(folder / "clear.png")
    Image.fromarray(rng.integers(0, 65535, (64, 40), dtype=np.uint16)).save(folder / "deep.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_the_runner_sees_what_we_see(mode: str, tmp_path: Path, toy: cocoop.Backbone) -> None:
    kind = type(toy.preprocess)
    preprocess = kind(**{**asdict(toy.preprocess), "resize_mode": mode})
    for path in _variants(tmp_path):
        ours = preprocess.test(to_image(path)).numpy()
        np.testing.assert_allclose(pixels(path, asdict(preprocess)), ours, atol=1e-5, err_msg=path.name)


def test_a_model_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    differs = Parity("emoji/food", 10, 10, 2e-4, batch=0.0, pixels=0.0, exact=10, approximation=0.0)
    monkeypatch.setattr(graph, "to_onnx", lambda *arguments: b"")
    monkeypatch.setattr(parity, "compare", lambda *arguments: differs)
    model = CoOp("toy", epochs=1).fit(IMAGES, LABELS)
    with pytest.raises(CocoopError, match="not the same: 10 of 10 answers"):
        export(model, None, tmp_path / "x", Console(quiet=True))
    assert not (tmp_path / "x").exists()
    with pytest.raises(CocoopError, match="9 of 10"):
        Parity("emoji/food", 10, 9, 0.0, 0.0, 0.0, 10, 0.0).check()


def test_wrong_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = CoOp("toy", epochs=1).fit(IMAGES, LABELS)
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(UsageError, match="something else than an export"):
        export(model, NAMES, tmp_path, Console(quiet=True))
    with pytest.raises(UsageError, match="empty name"):
        export(model, ["a", " "], tmp_path / "x", Console(quiet=True))
    monkeypatch.setattr(graph, "LIMIT", 10)
    with pytest.raises(UsageError, match="2 GB"):
        export(model, NAMES, tmp_path / "x", Console(quiet=True))


def test_the_images_of_the_check_fit_the_names() -> None:
    assert embedded_images(["violin", "apple", "hot dog", "red apple"]).name == "emoji/food"


def test_the_linear_form_has_no_text_tower(tmp_path: Path) -> None:
    model = CoCoOp("toy", epochs=1).fit(IMAGES, LABELS)
    size = len(graph.to_onnx(model.load_backbone(), model.classifier(NAMES)))
    export(model.set_params(testing="linear"), NAMES, tmp_path / "linear", Console(quiet=True))
    spec = json.loads((tmp_path / "linear" / "export.json").read_text())
    file = tmp_path / "linear" / "model.onnx"
    assert file.stat().st_size < size - 30_000  # of the toy text tower
    views = np.stack([model.load_backbone().preprocess.test(image).numpy() for image in IMAGES])
    [probabilities] = onnxruntime.InferenceSession(file).run(None, {"images": views})
    np.testing.assert_allclose(probabilities, model.predict_proba(IMAGES, NAMES), atol=TOLERANCE)
    assert spec["testing"] == "linear"
    assert spec["parity"]["exact"] >= 0.95 * spec["parity"]["images"]
    assert 0 < spec["parity"]["approximation"] < 0.05


def test_a_graph_is_not_screened(tmp_path: Path) -> None:
    model = CoCoOp("toy", epochs=1, testing="screened").fit(IMAGES, LABELS)
    with pytest.raises(UsageError, match="a graph cannot choose what it computes"):
        export(model, NAMES, tmp_path / "screened", Console(quiet=True))
