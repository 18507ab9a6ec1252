"""A classifier whose method learns inside the towers is fitted, asked, measured and exported like any."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

import cocoop
from cocoop import Backbone, UsageError
from cocoop.data import open_dataset
from cocoop.data.decode import open_image
from cocoop.data.shards import find_shards
from cocoop.deploy.onnx.export import export
from cocoop.deploy.serve.answers import SideBySide
from cocoop.deploy.serve.uploads import Upload
from cocoop.estimator import many
from cocoop.estimator.evaluate import evaluate
from cocoop.estimator.fit import FitOptions, fit
from tests.methods.drop_in import drop_in
from tests.methods.test_hooks import TOWERED

QUIET = Console(file=io.StringIO())


@pytest.fixture
def model(toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cocoop.PromptClassifier:
    drop_in(TOWERED, "towered", tmp_path, monkeypatch)
    options = FitOptions(
        data="emoji/activities",
        out=tmp_path / "model",
        shots=2,
        new_classes=None,
        names=None,
        root=None,
        params={"method": "towered", "backbone": toy, "seed": 1},
    )
    return fit(options, QUIET)


def pictures(count: int = 5) -> list[object]:
    data = open_dataset("emoji/activities")
    return [open_image(data.root, item.path) for item in data.items("test")[:count]]


def test_it_answers_with_what_it_learned(
    model: cocoop.PromptClassifier, toy: Backbone, tmp_path: Path
) -> None:
    assert model.info_.results[0].trained != model.info_.results[0].zeroshot
    loaded = cocoop.load(tmp_path / "model", toy)
    assert np.array_equal(loaded.predict_proba(pictures()), model.predict_proba(pictures()))
    pixels = torch.stack([toy.preprocess.test(image) for image in pictures()])  # type: ignore[arg-type]
    method = model.method_
    prompts = {1: method.vectors}  # type: ignore[attr-defined]
    expected = torch.cat([toy.vision.above(toy.vision.below(pixels, at), at, learned) for at, learned in
                          ((1, prompts), ("pixels", None))], 1)  # fmt: skip
    torch.testing.assert_close(model.encode(pixels), expected.detach())
    torch.testing.assert_close(model.looks(pictures()), expected.detach())  # type: ignore[arg-type]
    torch.testing.assert_close(model.features(pictures()), toy.encode_image(pixels))  # type: ignore[arg-type]
    stored = load_file(next((tmp_path / "model").glob("prompt-*.safetensors")))
    assert stored.keys() == method.state_dict().keys()  # no weight of the towers


def test_images_in_memory_are_the_same_training(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in(TOWERED, "towered", tmp_path, monkeypatch)
    call = {"method": "towered", "backbone": toy, "epochs": 2}
    labels = ["a", "b", "a", "b", "a"]
    kept, made = (
        cocoop.PromptClassifier(**call, settings={"cut": cut, "batch_size": 2}).fit(pictures(), labels)
        for cut in (1, -1)  # where it is kept, and where it is not
    )
    torch.testing.assert_close(kept.method_.vectors, made.method_.vectors, rtol=1e-4, atol=1e-6)
    assert kept.method_.vectors.abs().sum() > 0


def test_it_is_measured_by_its_own_features(model: cocoop.PromptClassifier, tmp_path: Path) -> None:
    data = open_dataset("emoji/activities")
    evaluate(model, data, "test", tmp_path / "out", QUIET)
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    items = data.items("test")
    images = [open_image(data.root, item.path) for item in items]
    right = int((model.predict(images) == np.array([item.name for item in items])).sum())
    assert told["towered"]["correct"] == right == model.info_.results[0].trained


def test_pieces_and_exports_have_what_it_learned(
    model: cocoop.PromptClassifier, toy: Backbone, tmp_path: Path
) -> None:
    export(model, None, tmp_path / "exported", QUIET)
    told = json.loads((tmp_path / "exported" / "export.json").read_text())
    assert told["parity"]["same"] == told["parity"]["images"]
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(pictures()):
        image.convert("RGB").save(tmp_path / "photos" / f"{index}.png")  # type: ignore[attr-defined]
    job = many.Job(tmp_path / "model", device="cpu")
    assert not many.run_here(job, find_shards([str(tmp_path / "photos")]), tmp_path / "answers")
    (part,) = (tmp_path / "answers").glob("*.parquet")
    rows = pq.read_table(part).to_pylist()
    alike = model.predict([Image.open(row["path"]) for row in rows])
    assert [row["names"][0] for row in rows] == alike.tolist()


def test_models_side_by_side_have_towers_of_their_own(
    model: cocoop.PromptClassifier, toy: Backbone, tmp_path: Path
) -> None:
    other = cocoop.PromptClassifier("coop", toy, epochs=1).fit(pictures(), list("aabbc"))  # type: ignore[arg-type]
    both = SideBySide({"inside": model, "outside": other})
    file = io.BytesIO()
    pictures(1)[0].convert("RGB").save(file, "PNG")  # type: ignore[attr-defined]
    (answer,) = both.answer([Upload("one", file.getvalue)], ["ski", "ticket"], 2)
    picture = [Image.open(file)]
    zero = cocoop.ZeroShot(toy, template=model.template)
    for label, each in {"inside": model, "outside": other, "zero-shot": zero}.items():
        expected = each.predict_proba(picture, classes=["ski", "ticket"])[0]
        assert dict(answer.tops[label]) == pytest.approx(
            dict(zip(["ski", "ticket"], expected, strict=True)), abs=1e-5
        )


def test_other_towers_are_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in(TOWERED, "towered", tmp_path, monkeypatch)
    model = cocoop.PromptClassifier("towered", "tiny-clip")
    with pytest.raises(UsageError, match="nothing can be learned inside the image tower of tiny-clip"):
        model.fit(pictures(), ["a", "b", "a", "b", "a"])  # type: ignore[arg-type]
