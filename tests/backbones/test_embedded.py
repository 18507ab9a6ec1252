"""The second embedded model: a vision transformer beside tiny-clip's text tower, which is stored once."""

from pathlib import Path

import open_clip
import pytest
import torch
from jaxtyping import Float
from open_clip.transformer import QuickGELU, VisionTransformer
from safetensors.torch import load_file
from torch import Tensor

from cocoop import Backbone, ZeroShot, load_backbone, open_dataset
from cocoop.backbones.family import find
from cocoop.backbones.names import model_config
from cocoop.backbones.pretrained import EMBEDDED, EMBEDDED_VIT
from cocoop.data import open_image
from cocoop.errors import CocoopError, UsageError
from cocoop.utils import assets
from cocoop.utils.seeding import seeded
from tests.cli.test_cli import call

PARTS = (EMBEDDED, EMBEDDED_VIT)
DATA = open_dataset("emoji/activities")
IMAGES = [open_image(DATA.root, item.path) for item in DATA.items("test")]


@pytest.fixture(scope="module")
def resnet() -> Backbone:
    return load_backbone(EMBEDDED, device="cpu")


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return load_backbone(EMBEDDED_VIT, device="cpu")


def features(clip: Backbone) -> Float[Tensor, "b d"]:
    return clip.encode_image(clip.preprocess.batch(IMAGES))


def test_it_is_a_clip_with_a_vision_transformer(vit: Backbone) -> None:
    model = vit.model
    assert isinstance(model, open_clip.CLIP)
    assert isinstance(model.visual, VisionTransformer)
    assert model.visual.pool_type == "tok"
    assert {type(block.mlp.gelu) for block in model.visual.transformer.resblocks} == {QuickGELU}
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert 1 <= vit.logit_scale <= 100.001


def test_methods_can_learn_inside_its_image_tower(vit: Backbone, resnet: Backbone) -> None:
    assert len(vit.vision.blocks) == 5
    with pytest.raises(UsageError, match=r"image tower of tiny-clip: .*; choose a ViT, e\.g\. tiny-clip-vit"):
        _ = resnet.vision


def test_its_text_tower_is_that_of_tiny_clip(vit: Backbone, resnet: Backbone) -> None:
    tokens = open_clip.SimpleTokenizer(context_length=32)(["a photo of a dog.", "a red emoji of a cup."])
    with torch.no_grad():
        assert torch.equal(vit.model.encode_text(tokens), resnet.model.encode_text(tokens))
    assert (vit.embed_dim, vit.width, vit.context_length) == (resnet.embed_dim, resnet.width, 32)
    assert vit.preprocess == resnet.preprocess


def test_its_folder_holds_the_image_tower_alone() -> None:
    path = assets.asset(f"{EMBEDDED_VIT}/open_clip_model.safetensors")
    own = load_file(path)
    assert {name.split(".")[0] for name in own} == {"visual", "logit_scale"}
    assert {value.dtype for value in own.values()} == {torch.float16}
    assert path.stat().st_size < 2.6e6


def test_it_equals_itself_and_not_tiny_clip(vit: Backbone, resnet: Backbone) -> None:
    again = load_backbone(EMBEDDED_VIT, device="cpu")
    assert again.weights_digest == vit.weights_digest != resnet.weights_digest
    assert torch.equal(features(again), features(vit))


def test_its_image_features_are_learned_from_those_of_tiny_clip(vit: Backbone, resnet: Backbone) -> None:
    aims = features(resnet)
    with seeded(0), torch.no_grad():
        untrained = open_clip.CLIP(**model_config(EMBEDDED_VIT)).visual(vit.preprocess.batch(IMAGES))
    assert torch.cosine_similarity(features(vit), aims).mean() > 0.6
    assert torch.cosine_similarity(untrained, aims).mean().abs() < 0.3


def test_it_names_drawings_that_it_never_saw(vit: Backbone) -> None:
    model = ZeroShot(vit, template="a color emoji of a {}.")
    truth = [item.name for item in DATA.items("test")]
    assert (model.predict(IMAGES, classes=DATA.class_names) == truth).mean() > 0.6


@pytest.mark.parametrize("name", PARTS)
def test_a_damaged_part_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text weights too, which lie in tiny-clip's folder."""
    file = Path(name, "open_clip_model.safetensors")
    for folder in PARTS:
        (tmp_path / folder).mkdir()
        for path in (assets.ASSETS / folder).glob("open_clip_*"):
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-1])
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    monkeypatch.setattr(assets, "asset", assets.asset.__wrapped__)
    monkeypatch.setattr("cocoop.backbones.names.asset", assets.asset)
    with pytest.raises(CocoopError, match=rf"{file} is missing or damaged; install cocoop again"):
        load_backbone(EMBEDDED_VIT, device="cpu")


def test_its_skeleton_is_its_own_shape(vit: Backbone, capsys: pytest.CaptureFixture[str]) -> None:
    skeleton = find(EMBEDDED_VIT).skeleton()
    assert skeleton is not None
    shapes = {name: value.shape for name, value in vit.model.state_dict().items()}
    assert {name: value.shape for name, value in skeleton.model.state_dict().items()} == shapes
    assert find(EMBEDDED_VIT).cached() is None
    assert call("backbones", "show", EMBEDDED_VIT) == 0
    assert "none to fetch by this name" in capsys.readouterr().out
