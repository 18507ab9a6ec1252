"""What is said of backbones before they are used, and of names that they make little of."""

import sys
import warnings
from pathlib import Path

import open_clip
import pytest

from cocoop import Backbone, Classifier, load_backbone
from cocoop.backbones.family import find
from cocoop.methods import METHODS, build
from cocoop.text import scripts
from cocoop.text.estimate import step_bytes
from tests.cli.test_cli import call
from tests.families import PADDED, TREES, saved

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import architectures

SAMPLE = [
    "ViT-B-32",
    "RN50",
    "MobileCLIP-S1",
    "ViT-B-16-SigLIP2",
    "coca_ViT-B-32",
    "roberta-ViT-B-32",
    "nllb-clip-base",
]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_of_the_architectures_encodes(name: str) -> None:
    """And stands on the page as it is."""
    page = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text()
    assert " | ".join(architectures.row(name)) in page


@pytest.mark.nightly
def test_every_architecture_encodes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text()
    assert "\n".join(architectures.page()).strip() == page.strip()


def test_the_page_has_every_architecture() -> None:
    page = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text()
    assert [name for name in open_clip.list_models() if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize("name", ["open_clip SigLIP", "AlignModel", "CLIPModel"])
def test_show_says_what_a_model_is(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = saved(name, tmp_path / "m")
    capsys.readouterr()
    assert call("backbones", "show", place, "--classes", "7") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert ("padded" in words) == (name in PADDED) != (name in TREES)
    backbone = load_backbone(place, "cpu")
    count = sum(parameter.numel() for parameter in backbone.model.parameters()) / 1e6
    assert f"{count:.1f} M" in words
    assert "none to fetch" in words


def test_a_step_needs_more_with_more_classes() -> None:
    skeleton = find("toy").skeleton()
    assert skeleton is not None
    few, many = (step_bytes(skeleton.text, classes) for classes in (10, 100))
    assert few is not None
    assert many is not None
    assert 5 * few < many < 11 * few


def test_other_scripts_are_said_once(toy: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "_said", set())
    method = build(
        "zeroshot",
        METHODS.get("zeroshot").config_type(),
        toy,
        template="a photo of a {}.",
        n_classes=2,
        seed=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Classifier(toy, method, ["dog", "caf\u00e9"])
    with pytest.warns(
        UserWarning, match=r"toy was trained on English, and makes little of '\u732b'.*hf:BAAI/AltCLIP"
    ):
        Classifier(toy, method, ["dog", "\u732b"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Classifier(toy, method, ["\u72ac", "\u732b"])
        many = load_backbone("toy", "cpu")
        many.name, many.languages = "many", "multilingual"
        Classifier(many, method, ["\u72ac", "\u732b"])
