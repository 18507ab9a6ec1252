"""A model folder: two lines to load it, and nothing in it can change unnoticed."""

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from sklearn.base import clone

import cocoop
from cocoop import CoCoOp, CocoopError, CoOp, UsageError, ZeroShot
from cocoop.estimator.card import Result
from cocoop.utils.files import file_digest
from tests.estimator.test_estimator import painted

IMAGES, LABELS = painted(2)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    result = Result(name="held-out images", classes=3, images=12, zeroshot=6, trained=9)
    CoCoOp("toy", epochs=1).fit(IMAGES, LABELS).save(tmp_path / "m", [result])
    return tmp_path / "m"


@pytest.mark.parametrize("kind", [CoCoOp, CoOp, ZeroShot])
def test_a_loaded_model_says_the_same(kind: type, tmp_path: Path) -> None:
    made = kind("toy", seed=5) if kind is ZeroShot else kind("toy", seed=5, epochs=2)
    made.fit(IMAGES, LABELS).save(tmp_path / "m")
    loaded = cocoop.load(tmp_path / "m")
    for classes in (None, ["violin", "red apple"]):
        assert np.array_equal(loaded.predict_proba(IMAGES, classes), made.predict_proba(IMAGES, classes))
    assert loaded.get_params() == made.get_params()
    again = clone(loaded).fit(IMAGES, LABELS)
    assert np.array_equal(again.predict_proba(IMAGES), made.predict_proba(IMAGES))


def test_it_is_small_and_describes_itself(model: Path) -> None:
    readme, facts, prompt = sorted(path.name for path in model.glob("[!.]*"))
    assert (readme, facts) == ("README.md", "model.json")
    assert prompt == f"prompt-{file_digest(model / prompt)[:16]}.safetensors"
    assert sum(path.stat().st_size for path in model.iterdir()) < 100_000
    facts = json.loads((model / "model.json").read_text())
    assert facts["learned"] == file_digest(model / prompt)
    assert facts["prompt"]["backbone"] == "toy"
    assert len(facts["prompt"]["weights"]) == 64
    assert facts["prompt"]["class_names"] == ["blue", "green", "red"]
    assert facts["prompt"]["template"] == "a photo of a {}."
    assert facts["recipe"]["epochs"] == 1
    assert facts["results"][0]["trained"] == 9
    assert "torch" in facts["environment"]


def test_the_model_card_is_the_hubs(model: Path) -> None:
    card = ModelCard.load(model / "README.md")
    assert card.data.library_name == "cocoop"
    assert card.data.pipeline_tag == "zero-shot-image-classification"
    assert card.data.eval_results[0].metric_value == 0.75
    assert "| held-out images | 3 | 12 | 50.0% | 75.0% |" in card.text
    assert "cocoop.load('m')" in card.text
    assert "It knows 3 classes, and takes any other names." in card.text


def test_names_are_plain_text_in_the_card(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "a: [b](c)", "naïve *café*"]
    ZeroShot("toy").fit(IMAGES[:3], names).save(tmp_path / "m")
    text = (tmp_path / "m" / "README.md").read_text()
    assert "<script>" not in text
    assert "[b](c)" not in text
    assert "naïve" in text
    assert cocoop.load(tmp_path / "m").classes_.tolist() == sorted(names)


@pytest.mark.parametrize("name", ["model.json", "prompt-*.safetensors"])
@pytest.mark.parametrize("damage", ["edited", "cut", "gone", "empty"])
def test_a_changed_file_is_refused(model: Path, name: str, damage: str) -> None:
    (path,) = model.glob(name)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "edited": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "cut": whole[:-5],
            "gone": b"",
            "empty": b"",
        }[damage]
    )
    if damage == "gone":
        path.unlink()
    with pytest.raises(
        CocoopError,
        match=f"{path.name} (is missing or )?was changed"
        if damage != "gone"
        else "is missing|no model folder",
    ):
        cocoop.load(model)


def test_the_readme_is_yours_to_edit(model: Path) -> None:
    (model / "README.md").write_text("mine")
    assert cocoop.load(model).predict(IMAGES).shape == (6,)


def test_other_folders_are_left_alone(tmp_path: Path, model: Path) -> None:
    fitted = cocoop.load(model)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.png").write_text("")
    with pytest.raises(UsageError, match="something else than a model"):
        fitted.save(tmp_path / "photos")
    with pytest.raises(UsageError, match="is a file"):
        fitted.save(tmp_path / "photos" / "mine.png")
    with pytest.raises(UsageError, match=r"holds a model already; .*overwrite=True"):
        fitted.save(model)
    fitted.save(model, overwrite=True)
    assert cocoop.load(model).info_.results == fitted.info_.results
    with pytest.raises(CocoopError, match="no model folder"):
        cocoop.load(tmp_path / "photos")


def test_a_backbone_that_is_not_here_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: str) -> cocoop.Backbone:
        raise CocoopError("the weights cannot be loaded: no network")

    monkeypatch.setattr("cocoop.estimator.shared_backbone", offline)
    with pytest.raises(CocoopError, match=r'needs the backbone toy.*load_backbone\("toy"\)') as error:
        cocoop.load(model)
    assert "no network" in str(error.value)


def test_a_wrong_device_is_not_taken_for_a_missing_backbone(model: Path) -> None:
    for wrong, words in (({"device": "cpuu"}, "unknown device"), ({"precision": "fp8"}, "unknown precision")):
        with pytest.raises(UsageError, match=f"^{words}"):
            cocoop.load(model, **wrong)


def test_another_backbone_is_refused(model: Path) -> None:
    with pytest.raises(CocoopError, match="other weights"):
        cocoop.load(model, cocoop.load_backbone())
