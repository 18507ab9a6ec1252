"""Backbones by every name and from every kind of file; nothing is downloaded."""

import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from cocoop import Classifier, load_backbone
from cocoop.backbones import checkpoint
from cocoop.backbones import names as weights
from cocoop.backbones.device import allow_tf32, choose_device, choose_precision
from cocoop.errors import CocoopError, UsageError
from cocoop.methods._recipe import Recipe
from cocoop.methods.cocoop import Config
from cocoop.methods.cocoop import Model as CoCoOp
from cocoop.training.loop import fit
from cocoop.training.samples import Samples
from cocoop.utils.assets import ASSETS
from cocoop.utils.seeding import seeded

VISIONS = {
    "vit": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
STAMPS = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
NAMES = ["apple", "golden retriever", "hammer"]


def released(vision: str) -> open_clip.CLIP:
    """A small model of the family that OpenAI released, heads of 64."""
    with seeded(3):
        return open_clip.CLIP(16, VISIONS[vision], TEXT, quick_gelu=True).eval()


def openai_state(model: open_clip.CLIP) -> dict[str, torch.Tensor]:
    return model.state_dict() | {name: torch.tensor(value) for name, value in STAMPS.items()}


def save_archive(model: open_clip.CLIP, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated; the published files stay as they are
        model.__dict__["attn_mask"] = model._buffers.pop("attn_mask")  # no buffer in the published files
        for name, value in STAMPS.items():
            model.__dict__.pop(name, None)
            model.register_buffer(name, torch.tensor(value))
        inputs = {"encode_image": torch.ones(1, 3, 32, 32)}
        torch.jit.save(torch.jit.trace_module(model, inputs), path)


def assert_same_features(backbone: weights.nn.Module, model: open_clip.CLIP) -> None:
    with seeded(1):
        images = torch.rand(2, 3, 32, 32)
    tokens = open_clip.tokenize(NAMES)
    torch.testing.assert_close(backbone.encode_image(images), model.encode_image(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        backbone.model.encode_text(tokens), model.encode_text(tokens), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("vision", sorted(VISIONS))
def test_an_openai_state_dict_has_quick_gelu(vision: str, small: dict, tmp_path: Path) -> None:
    model, path = released(vision), tmp_path / "clip.pt"
    torch.save(openai_state(model), path)
    with pytest.raises(UsageError, match=f"its architecture must be given: ARCHITECTURE@{path}"):
        load_backbone(str(path))
    backbone = load_backbone(f"Small-{vision}@{path}")
    assert_same_features(backbone, model)
    assert backbone.weights_digest == load_backbone(f"Small-{vision}@{path}").weights_digest
    method = CoCoOp(Config(), backbone, template="a photo of a {}.", n_classes=3, seed=1)
    before = method.ctx.detach().clone()
    trace = fit(
        Classifier(backbone, method, NAMES),
        Samples(lambda epoch: torch.ones(3, 16), torch.arange(3)),
        Recipe(epochs=1),
        seed=1,
    )
    assert len(trace.loss) == 3
    assert not torch.equal(method.ctx, before)


def test_a_published_archive_loads_and_a_foreign_one_does_not(
    small: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ViT.pt"
    model = released("vit")
    with torch.no_grad():
        images = torch.rand(1, 3, 32, 32)
        expected = model.encode_image(images)
    save_archive(model, path)
    for name in (str(path), f"Small-vit@{path}"):
        with pytest.raises(CocoopError, match="none of those that OpenAI published"):
            load_backbone(name)
    digest = checkpoint.file_digest(path)
    monkeypatch.setattr(checkpoint, "published_architectures", lambda: {digest: "Small-vit"})
    for name in (str(path), f"Small-vit@{path}"):
        torch.testing.assert_close(load_backbone(name).encode_image(images), expected)
    with pytest.raises(CocoopError, match="does not hold the weights of Small-resnet"):
        load_backbone(f"Small-resnet@{path}")


def test_openai_publishes_nine_archives() -> None:
    published = checkpoint.published_architectures()
    assert len(published) == 9
    assert all(len(digest) == 64 for digest in published)
    assert {"RN50", "ViT-B-16", "ViT-L-14-336"} < set(published.values()) < set(open_clip.list_models())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict]:
    """Two small architectures among open_clip's, the second with a tag trained with QuickGELU."""
    configs = {
        f"Small-{vision}": {"embed_dim": 16, "vision_cfg": dict(VISIONS[vision]), "text_cfg": dict(TEXT)}
        for vision in VISIONS
    }
    for name, config in configs.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
    tag = {"hf_hub": "someone/clip/", "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Small-vit", {"theirs": tag})
    return configs


def test_other_files_need_the_architecture_and_a_tag_brings_its_activation(
    small: dict, tmp_path: Path
) -> None:
    model = released("vit")  # with QuickGELU
    path = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), path)
    with pytest.raises(UsageError, match="its architecture must be given"):
        load_backbone(str(path))
    by_tag = load_backbone(f"Small-vit/theirs@{path}")
    assert_same_features(by_tag, model)
    assert by_tag.preprocess.mean == (0.1, 0.2, 0.3)
    plain = load_backbone(f"Small-vit@{path}")
    assert not torch.equal(
        plain.model.encode_text(open_clip.tokenize("a")), by_tag.model.encode_text(open_clip.tokenize("a"))
    )


def test_weights_of_another_architecture_are_named(small: dict, tmp_path: Path) -> None:
    for vision, other in (("vit", "resnet"), ("resnet", "vit")):
        path = tmp_path / f"{vision}.pt"
        torch.save({"state_dict": released(vision).state_dict()}, path)
        with pytest.raises(CocoopError, match=rf"weights of Small-{other}: .*visual"):
            load_backbone(f"Small-{other}@{path}")


def test_a_folder_as_open_clip_saves_it(tmp_path: Path) -> None:
    for file in (ASSETS / weights.EMBEDDED).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert load_backbone(str(tmp_path)).weights_digest == load_backbone().weights_digest
    (tmp_path / "open_clip_config.json").unlink()
    with pytest.raises(CocoopError, match=r"not a model folder \(open_clip_config.json"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"{}", bytes(1000)])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CocoopError, match="not a file of CLIP weights"):
        load_backbone(f"RN50@{path}")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"x": Attack()}, tmp_path / "evil.pt")
    with pytest.raises(CocoopError, match="not a file of CLIP weights"):
        load_backbone(f"RN50@{tmp_path / 'evil.pt'}")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B/16", ("ViT-B-16", "")),
        ("ViT-B/16/openai", ("ViT-B-16", "openai")),
        ("ViT-L/14", ("ViT-L-14", "")),
        ("RN50", ("RN50", "")),
        ("RN50/yfcc15m", ("RN50", "yfcc15m")),
        ("ViT-B-32-quickgelu/random", ("ViT-B-32-quickgelu", "random")),
    ],
)
def test_both_spellings(name: str, expected: tuple[str, str]) -> None:
    assert weights._architecture(name) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-61/openai", "Did you mean 'ViT-B-16'"),
        ("ViT-B-16/openia", "Did you mean 'openai'"),
        ("ViT-B-32-quickgelu/laion2b_s34b_b79k", "unknown weights"),
        ("RN50-quickgelu/cc12m_", "Did you mean 'cc12m'"),
        ("./nowhere/clip.pt", "there is no file"),
        ("RN50@nowhere.pt", "there is no file nowhere.pt"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_backbone(name)


def test_quick_gelu_is_refused_for_weights_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["RN50-quickgelu"], "plain", {"quick_gelu": False})
    with pytest.raises(UsageError, match="use RN50/plain"):
        load_backbone("RN50-quickgelu/plain")


def test_offline_says_which_file_is_missing_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CocoopError) as caught:
        load_backbone("ViT-B/16")
    message = str(caught.value)
    assert "open_clip_model.safetensors" in message
    assert "timm/vit_base_patch16_clip_224.openai" in message
    assert "--backbone ViT-B-16/openai@FILE" in message


def test_a_squashing_backbone_resizes_both_edges() -> None:
    from PIL import Image

    from cocoop.data.transforms import Preprocess

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    wide = Image.new("RGB", (64, 16))
    wide.paste((255, 255, 255), (0, 0, 16, 16))  # the left quarter
    squashed = Preprocess(16, mean, std, "bilinear", "squash").test(wide)
    assert squashed[0, 8, 1] > 0.9
    assert Preprocess(16, mean, std).test(wide).max() == 0  # cropped away
    with pytest.raises(CocoopError, match="longest"):
        Preprocess(16, mean, std, "bicubic", "longest")


def test_a_loaded_model_is_frozen() -> None:
    model = load_backbone("toy").model
    assert not any(module.training for module in model.modules())
    assert not any(weight.requires_grad for weight in model.parameters())


def test_devices_and_precisions() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_device("cpu") == cpu
    assert choose_precision("auto", cpu) == "fp32"
    assert choose_precision("auto", cuda) == "fp16"
    assert choose_precision("tf32", cuda) == "tf32"
    for wrong in ("cud", "cuda" if not torch.cuda.is_available() else "mps"):
        with pytest.raises(UsageError):
            choose_device(wrong)
    for gpu in ("gpu", "GPU:0"):
        with pytest.raises(UsageError, match=f"unknown device '{gpu}'. A GPU is called 'cuda' .* 'mps'"):
            choose_device(gpu)
    with pytest.raises(UsageError, match="mode of CUDA"):
        choose_precision("tf32", cpu)
    with pytest.raises(UsageError, match="Did you mean 'fp16' or 'bf16'"):
        choose_precision("pf16", cpu)
    before = torch.backends.cudnn.allow_tf32
    allow_tf32("fp32")
    assert not torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before


def test_weights_that_will_be_fetched_are_said_with_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda repository, file: None)
    monkeypatch.setattr(open_clip, "create_model", lambda name, **given: torch.nn.Linear(9, 1))
    repository, size = weights.weights_to_fetch("ViT-B/16") or ("", 0)
    assert repository == "timm/vit_base_patch16_clip_224.openai"
    assert size == 4 * 10
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda repository, file: "/cache/file")
    for here in (
        "ViT-B/16",
        "toy",
        "tiny-clip",
        "ViT-B-16/random",
        "hf-hub:a/b",
        f"ViT-B-16/openai@{tmp_path}",
    ):
        assert weights.weights_to_fetch(here) is None
    with pytest.raises(UsageError):
        weights.weights_to_fetch("ViT-B-17")
