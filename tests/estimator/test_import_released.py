"""A prompt of the released code as a model folder that predicts, serves and exports."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cocoop
from cocoop import Backbone, Classifier, CocoopError, UsageError, load_prompt
from cocoop.deploy.serve.answers import SideBySide, Upload
from cocoop.deploy.serve.limits import Refused
from tests.cli.test_cli import call
from tests.estimator.test_estimator import painted
from tests.methods.test_methods import NAMES
from tests.training.test_released import save, state_dict

IMAGES, _ = painted(1)


@pytest.fixture
def run(toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run of the released code, in the working directory."""
    monkeypatch.chdir(tmp_path)
    save(Path("run/prompt_learner/model.pth.tar-10"), state_dict(toy, True))
    IMAGES[0].save("red.png")
    return Path("run")


def brought_over(run: Path, *options: str) -> cocoop.PromptClassifier:
    assert call("import-official", str(run), "--out", "m", "--backbone", "toy", *options) == 0
    return cocoop.load("m")


def test_it_predicts_what_the_prompt_does(
    run: Path, toy: Backbone, capsys: pytest.CaptureFixture[str]
) -> None:
    model = brought_over(run)
    shown = capsys.readouterr().out
    assert "model: m (cocoop on toy, from run/prompt_learner/model.pth.tar-10, epoch 10)" in shown
    assert "does not tell the weights of toy, so only sizes are checked on loading." in shown
    assert "It has no class names of its own; give the names to choose from with --classes." in shown
    assert 'try: cocoop predict m IMAGE --classes "any,names"' in shown
    (file,) = Path("m").glob("prompt-*.safetensors")
    method, card = load_prompt(file, toy)
    expected = Classifier(toy, method, ("red", "violin")).predict(model.features(IMAGES)).softmax(1)
    np.testing.assert_array_equal(model.predict_proba(IMAGES, ["red", "violin"]), expected.numpy())
    assert card.weights == ""
    assert card.template == "a photo of a {}."
    assert call("predict", "m", "red.png", "--classes", "red,violin", "--format", "json") == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert {top["name"] for top in answer["top"]} == {"red", "violin"}


def test_no_weights_are_needed(run: Path, toy: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        for place in ("cocoop.backbones.clip.load_parts", "cocoop.estimator.backbone.load_backbone"):
            patch.setattr(place, lambda *given: pytest.fail("a CLIP is loaded"))
        assert call("import-official", str(run), "--out", "m", "--backbone", "toy") == 0
    assert cocoop.load("m", toy).predict(IMAGES, ["red"]).tolist() == ["red"] * 3


def test_without_class_names_some_must_be_given(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = brought_over(run)
    assert model.classes_.tolist() == []
    with pytest.raises(
        UsageError, match=r"no class names of its own; give some: classes=\[...\], or --classes"
    ):
        model.predict(IMAGES)
    capsys.readouterr()
    for format in ("table", "csv", "json"):
        assert call("predict", "m", "red.png", "--format", format) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "give some: classes=[...], or --classes" in printed.err
    assert call("export", "m", "--out", "e") == 2
    assert call("explain", "m", "--image", "red.png") == 0
    shown = capsys.readouterr().out
    assert "not known" in shown
    assert "for this image the Meta-Net moves every vector" in shown


def test_with_class_names_it_is_like_any_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("names.txt").write_text("\n".join(NAMES))
    model = brought_over(run, "--dataset", "oxford_pets", "--class-names", "names.txt")
    assert "no class names" not in capsys.readouterr().out
    assert model.classes_.tolist() == NAMES
    assert model.template == model.info_.prompt.template == "a photo of a {}, a type of pet."
    assert model.predict(IMAGES).shape == (3,)
    again = model.set_params(epochs=1).fit(IMAGES, ["red", "green", "blue"])  # with the settings it had
    assert again.info_.prompt.config == cocoop.load("m").info_.prompt.config
    again.save("m", overwrite=True)
    assert cocoop.load("m").classes_.tolist() == ["blue", "green", "red"]


def test_it_is_served(run: Path) -> None:
    model = brought_over(run)
    upload = Upload("red.png", Path("red.png").read_bytes)
    models = SideBySide({"cocoop": model})
    with pytest.raises(Refused, match="no class names of their own"):
        models.answer([upload], (), 3)
    (answer,) = models.answer([upload], ("red", "violin"), 3)
    assert {name for name, _ in answer.tops["cocoop"]} == {"red", "violin"}
    other = cocoop.ZeroShot("toy").fit(IMAGES, ["red", "green", "blue"])
    assert SideBySide({"cocoop": model, "other": other}).classes == ("blue", "green", "red")


def test_it_is_exported(run: Path, toy: Backbone) -> None:
    save(Path("run/prompt_learner/model.pth.tar-11"), state_dict(toy, False))
    brought_over(run)
    assert call("export", "m", "--out", "e", "--classes", "red,violin") == 0
    assert json.loads(Path("e/export.json").read_text())["weights"] == toy.weights_digest


def test_its_card(run: Path) -> None:
    brought_over(run)
    card = Path("m/README.md").read_text()
    assert "It has no classes of its own, and takes any names." in card
    assert "model.predict([" not in card
    assert "(weights not recorded)" in card
    assert "By the released code; brought over from model.pth.tar-10, epoch 10" in card


def test_vectors_of_classes_take_no_others(
    run: Path, toy: Backbone, capsys: pytest.CaptureFixture[str]
) -> None:
    ctx = torch.randn(3, 4, toy.width)
    save(Path("run/prompt_learner/model.pth.tar-11"), state_dict(toy, False) | {"ctx": ctx})
    for names in ([], NAMES[:2]):
        Path("names.txt").write_text("\n".join(names))
        given = ("--class-names", "names.txt") if names else ()
        assert call("import-official", "run", "--out", "m", "--backbone", "toy", *given) == 2
        assert f"for 3 classes, and {len(names)} names are given" in capsys.readouterr().err.replace(
            "\n", " "
        )
        assert not Path("m").exists()
    Path("names.txt").write_text("\n".join(NAMES))
    assert brought_over(run, "--class-names", "names.txt").predict(IMAGES).shape == (3,)
    assert "try: cocoop predict m IMAGE\n" in capsys.readouterr().out
    card = Path("m/README.md").read_text()
    assert "takes no other names" in card
    assert 'classes=["any"' not in card


def test_other_sizes_are_refused_on_loading(run: Path, toy: Backbone) -> None:
    assert call("import-official", str(run), "--out", "m", "--backbone", "hf-hub:somebody/clip") == 0
    assert cocoop.load("m", toy).predict(IMAGES, ["red"]).shape == (3,)
    with pytest.raises(CocoopError, match=r"(?s)m does not fit cocoop on tiny-clip.*size mismatch for ctx"):
        cocoop.load("m", cocoop.load_backbone("tiny-clip"))


def test_wrong_calls(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (4, 4)).save("photo.png")
    for arguments, code, words in (
        (["run", "--out", "."], 2, "something else than a model"),
        (["run", "--out", "m", "--method", "coop"], 1, "has a Meta-Net"),
        (["run", "--out", "m", "--method", "copo"], 2, "Did you mean 'coop'"),
        (["run", "--out", "m", "--backbone", "tyo"], 2, "Did you mean 'toy'"),
        (["run", "--out", "m", "--dataset", "imagnet"], 2, "Did you mean 'imagenet"),
        (["run", "--out", "m", "--class-names", "gone.txt"], 2, "the file gone.txt cannot be read"),
        (["photo.png", "--out", "m"], 1, "Nothing in it was run"),
        ([".", "--out", "m"], 1, "holds no checkpoint"),
    ):
        backbone = [] if "--backbone" in arguments else ["--backbone", "toy"]
        assert call("import-official", *arguments, *backbone) == code
        assert words in capsys.readouterr().err.replace("\n", " ")
        assert not Path("m").exists()
