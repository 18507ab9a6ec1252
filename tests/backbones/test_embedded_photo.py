"""The embedded model for photographs: EfficientNet-Lite0 and a text tower, in open_clip's format."""

from pathlib import Path

import numpy as np
import onnxruntime
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_sample_images
from torch.nn import functional as F

import cocoop
from cocoop.backbones.pretrained import EMBEDDED_PHOTO, embedded_for
from cocoop.errors import CocoopError, UsageError
from cocoop.methods import build
from cocoop.methods._settings import resolve
from cocoop.text.reference import ReferenceEncoder
from cocoop.training.classifier import Classifier
from cocoop.utils import assets
from tests.cli.test_cli import call

PALACE, DAHLIA = (Image.fromarray(pixels) for pixels in load_sample_images().images)
NAMES = ["temple", "flower", "dog", "car", "pizza", "airplane"]


@pytest.fixture(scope="module")
def clip() -> cocoop.Backbone:
    return cocoop.load_backbone(EMBEDDED_PHOTO, device="cpu")


def test_it_is_what_open_clip_reads_of_its_folder(clip: cocoop.Backbone) -> None:
    folder = assets.asset(f"{EMBEDDED_PHOTO}/open_clip_model.safetensors").parent
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")([f"a photo of a {name}." for name in NAMES])
    model.eval()
    with torch.no_grad():
        texts = model.encode_text(tokens, normalize=True)
        images = model.encode_image(torch.stack([transform(PALACE), transform(DAHLIA)]), normalize=True)
    ours = F.normalize(clip.encode_image(clip.preprocess.batch([PALACE, DAHLIA])), dim=1)
    torch.testing.assert_close(ours, images, rtol=0, atol=1e-5)
    probabilities = cocoop.ZeroShot(clip).predict_proba([PALACE, DAHLIA], NAMES)
    expected = (clip.logit_scale * images @ texts.T).softmax(1)
    np.testing.assert_allclose(probabilities, expected.numpy(), atol=1e-4)


def test_its_file_is_small() -> None:
    path = assets.asset(f"{EMBEDDED_PHOTO}/open_clip_model.safetensors")
    assert path.stat().st_size < 24e6
    kinds = {name: value.dtype for name, value in load_file(path).items() if value.is_floating_point()}
    assert kinds.pop("token_embedding.weight") == torch.float8_e4m3fn
    assert set(kinds.values()) == {torch.float16}


def test_it_names_photographs_and_their_relatives(clip: cocoop.Backbone) -> None:
    model = cocoop.ZeroShot(clip)
    assert model.predict([PALACE, DAHLIA], NAMES).tolist() == ["temple", "flower"]
    others = ["monastery", "blossom", "cat", "lorry", "bread", "ship"]  # neither is a class of ImageNet
    assert model.predict([PALACE, DAHLIA], others).tolist() == ["monastery", "blossom"]


def test_its_token_tree_equals_padded_prompts(clip: cocoop.Backbone) -> None:
    method = build("cocoop", resolve("cocoop").config, clip, template="a {}.", n_classes=len(NAMES), seed=1)
    classifier = Classifier(clip, method, NAMES)
    contexts = classifier.contexts(clip.encode_image(clip.preprocess.batch([PALACE, DAHLIA])))
    expected = ReferenceEncoder(clip, method.prompts[0], NAMES)(contexts)
    ours = F.normalize(classifier.encode_text(contexts), dim=-1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_methods_inside_the_image_tower_say_why_not(clip: cocoop.Backbone) -> None:
    with pytest.raises(UsageError, match=r"image tower of tiny-photo: .*; choose a ViT"):
        _ = clip.vision


@pytest.mark.nightly
def test_it_is_exported(clip: cocoop.Backbone, tmp_path: Path) -> None:
    model = cocoop.ZeroShot(clip).fit([PALACE, DAHLIA], ["palace", "dahlia"])
    model.save(tmp_path / "m")
    assert call("export", str(tmp_path / "m"), "--out", str(tmp_path / "e")) == 0
    (path,) = (tmp_path / "e").glob("*.onnx")
    pixels = clip.preprocess.batch([PALACE, DAHLIA]).numpy()
    (answers,) = onnxruntime.InferenceSession(path).run(["probabilities"], {"images": pixels})
    np.testing.assert_allclose(answers, model.predict_proba([PALACE, DAHLIA]), atol=1e-4)


def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / EMBEDDED_PHOTO).mkdir()
    for path in (assets.ASSETS / EMBEDDED_PHOTO).glob("open_clip_*"):
        (tmp_path / EMBEDDED_PHOTO / path.name).write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    monkeypatch.setattr(assets, "asset", assets.asset.__wrapped__)
    monkeypatch.setattr("cocoop.backbones.names.asset", assets.asset)
    with pytest.raises(CocoopError, match=r"tiny-photo/.* is missing or damaged; install cocoop again"):
        cocoop.load_backbone(EMBEDDED_PHOTO, device="cpu")


def test_each_kind_of_image_has_an_embedded_model() -> None:
    assert (embedded_for(photographs=True), embedded_for(photographs=False)) == ("tiny-photo", "tiny-clip")
