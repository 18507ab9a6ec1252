"""Phrases in names files, options, the API and Python: averaged, and kept in the model folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

import cocoop
from cocoop import CoCoOp, CoOp, UsageError, ZeroShot, open_dataset
from cocoop.deploy.onnx.graph import ImageClassifier
from cocoop.deploy.serve.answers import SideBySide, Upload
from cocoop.deploy.serve.limits import Refused
from cocoop.estimator.inputs import with_phrases
from tests.cli.test_cli import call

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
LABELS = ["cat", "dog"] * 2
CALLED = {"cat": ["tabby cat", "Katze"], "dog": "hound"}


def test_zero_shot_averages_features() -> None:
    model = ZeroShot("toy").fit(PIXELS, LABELS)
    fimg = normalize(model.features(PIXELS), dim=-1)
    tabby, katze, hound = (
        normalize(model.classifier([text]).encode(torch.zeros(1, 1, 0, 32))[0, 0], dim=-1)
        for text in ("tabby cat", "Katze", "hound")
    )
    texts = torch.stack([normalize(tabby + katze, dim=-1), hound])
    expected = (100 * fimg @ texts.T).softmax(1)
    np.testing.assert_allclose(model.predict_proba(PIXELS, CALLED), expected.numpy(), atol=1e-5)
    assert set(model.predict(PIXELS, CALLED)) <= {"cat", "dog"}
    assert not np.allclose(model.predict_proba(PIXELS), expected.numpy(), atol=1e-3)


@pytest.mark.parametrize("kind", [CoOp, CoCoOp])
def test_phrases_of_the_fit_are_kept(kind: type, tmp_path: Path) -> None:
    model = kind("toy", epochs=1, phrases=CALLED).fit(PIXELS, LABELS)
    assert model.classes_.tolist() == ["cat", "dog"]
    assert model.info_.prompt.phrases == {"cat": ["tabby cat", "Katze"], "dog": ["hound"]}
    expected = model.predict_proba(PIXELS)
    np.testing.assert_allclose(model.predict_proba(PIXELS, CALLED), expected)
    np.testing.assert_allclose(model.predict_proba(PIXELS, ["dog", "cat"])[:, ::-1], expected, atol=1e-5)
    model.save(tmp_path / "m")
    loaded = cocoop.load(tmp_path / "m")
    np.testing.assert_allclose(loaded.predict_proba(PIXELS), expected)
    assert loaded.phrases == CALLED
    clip, classifier = model.load_backbone(), model.classifier()
    views = torch.stack([clip.preprocess.test(Image.fromarray(each)) for each in PIXELS])
    whole = classifier.encoder_in_one_piece()
    with torch.no_grad():
        output = lambda fimg: classifier.pair(fimg, whole(classifier.contexts(fimg)))  # noqa: E731
        module = ImageClassifier(clip, classifier, output)
        np.testing.assert_allclose(module(views).numpy(), expected, atol=1e-5)


def test_vectors_of_each_class() -> None:
    settings = {"class_specific": True}
    model = CoOp("toy", epochs=1, settings=settings, phrases=CALLED).fit(PIXELS, LABELS)
    assert model.predict_proba(PIXELS).shape == (4, 2)


def test_phrases_in_a_names_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        Path("data", label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(Path("data", label, f"{number}.png"))
    Path("n.json").write_text(json.dumps({"cat": ["tabby cat", "Katze"], "dog": "hound"}))
    Path("n.csv").write_text("cat,tabby cat,Katze\ndog,hound\n")
    for file in ("n.json", "n.csv"):
        data = open_dataset("data", names=file)
        assert data.class_names == ("hound", "tabby cat")
        assert data.phrases == {"tabby cat": ("tabby cat", "Katze")}
    made = ("--backbone", "toy", "--method", "zeroshot", "--names", "n.json")
    assert call("fit", "data", "--out", "m", *made) == 0
    assert cocoop.load("m").info_.prompt.phrases == {"tabby cat": ["tabby cat", "Katze"]}
    capsys.readouterr()
    asked = ("--classes", "cat=tabby cat|Katze,dog", "--format", "json")
    assert call("predict", "m", "data/cat/0.png", *asked) == 0
    top = {each["name"]: each["probability"] for each in json.loads(capsys.readouterr().out)[0]["top"]}
    expected = cocoop.load("m").predict_proba("data/cat/0.png", {"cat": ["tabby cat", "Katze"], "dog": "dog"})
    assert top == {
        "cat": pytest.approx(expected[0, 0], abs=1e-5),
        "dog": pytest.approx(expected[0, 1], abs=1e-5),
    }
    assert call("predict", "m", "data/cat/0.png", "--classes", "cat=|a,dog") == 2


def test_phrases_in_the_api() -> None:
    models = SideBySide({"m": ZeroShot("toy").fit(PIXELS, LABELS)})
    content = _png(PIXELS[0])
    (answer,) = models.answer([Upload("a", lambda: content)], ["cat=tabby cat|Katze", "dog"], 2)
    expected = models.models["m"].predict_proba([content], {"cat": ["tabby cat", "Katze"], "dog": "dog"})[0]
    assert dict(answer.tops["m"]) == {
        "cat": pytest.approx(expected[0], abs=1e-5),
        "dog": pytest.approx(expected[1], abs=1e-5),
    }
    many = ["a=" + "|".join(map(str, range(60))), "b=" + "|".join(map(str, range(100, 160)))]
    small = SideBySide({"m": models.models["m"]}, models.limits.__class__(classes=100, name_length=1000))
    with pytest.raises(Refused, match="more than 100 phrases"):
        small.answer([Upload("a", lambda: content)], many, 2)
    with pytest.raises(Refused, match="no class with its phrases"):
        models.answer([Upload("a", lambda: content)], ["=x", "b"], 2)


def test_words_with_phrases() -> None:
    assert with_phrases(["cat", "dog", "Cat"]) == ("cat", "dog")
    assert with_phrases(["cat = a | b", "dog"]) == {"cat": ("a", "b"), "dog": ("dog",)}
    with pytest.raises(UsageError, match="several classes"):
        ZeroShot("toy").predict(PIXELS, {"cat": ["a", "b"], "dog": ["a"]})


def _png(pixels: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
