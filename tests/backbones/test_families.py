"""Every family: its own library's features, a prompt learned on it, and files of its weights; offline."""

import json
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import cocoop
from cocoop import Backbone, CocoopError, PromptClassifier, UsageError, load_backbone
from cocoop.backbones import hub
from cocoop.backbones.family import FAMILIES, find, text_sizes
from cocoop.backbones.tokenizer import HubVocabulary
from cocoop.deploy.onnx.graph import to_onnx
from cocoop.methods import METHODS, ordered
from cocoop.text import TextEncoder
from cocoop.text.prompt import Prompt
from tests import families
from tests.estimator.test_estimator import painted
from tests.estimator.test_every_method import fitted
from tests.families import NAMES, PADDED, TREES, own_text_features, saved

IMAGES, LABELS = painted(2)
TEXTS = [f"a photo of a {name}." for name in NAMES]
OTHERS = ["dog house", "red apple", "circle", "car"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    return cache(lambda name: saved(name, tmp_path_factory.mktemp("saved") / "m"))


def frozen_text(backbone: Backbone) -> torch.Tensor:
    nothing = torch.empty(1, 1, 0, backbone.width, dtype=backbone.dtype)
    return TextEncoder(backbone, [Prompt("a photo of a {}.")], NAMES, normalised=False)(nothing)[0]


@pytest.mark.parametrize("name", sorted(families.FAMILIES))
def test_features_are_those_of_its_own_functions(folder: Callable[[str], str], name: str) -> None:
    backbone = load_backbone(folder(name), "cpu", "fp32")
    assert (backbone.text.transformer is None) == (name in PADDED) == bool(backbone.text.reason)
    assert text_sizes(folder(name)) == (backbone.width, backbone.embed_dim)
    images = torch.rand(2, 3, *backbone.preprocess.edges)
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        model = backbone.model.to(dtype)
        with torch.no_grad():
            theirs = own_text_features(folder(name), model, TEXTS)
            assert (frozen_text(backbone) - theirs).abs().max() <= bound * theirs.abs().max()
            words = backbone.embed_words("a photo of a")[None, None]
            encoder = TextEncoder(backbone, [Prompt("a photo of a {}.", 4)], NAMES, normalised=False)
            assert (encoder(words)[0] - theirs).abs().max() <= bound * theirs.abs().max()
            pixels = images.to(dtype)
            if hasattr(model, "encode_image"):
                seen = model.visual(pixels)
                seen = seen[0] if isinstance(seen, tuple) else seen
            elif model.config.model_type == "siglip2":  # it takes patches: row by row, channels last
                rows = [pixels[:, :, y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16)]
                patches = torch.stack([row.permute(0, 2, 3, 1).flatten(1) for row in rows], 1)
                shape, mask = torch.tensor([[2, 2], [2, 2]]), torch.ones(2, 4, dtype=torch.long)
                seen = model.get_image_features(patches, mask, shape).pooler_output
            else:
                seen = model.get_image_features(pixel_values=pixels).pooler_output
            image = backbone.image(pixels)
            assert image.shape == (2, backbone.embed_dim)
            assert (image - seen).abs().max() <= bound * seen.abs().max()


@pytest.mark.parametrize("name", sorted(families.FAMILIES))
def test_a_prompt_is_learned_saved_loaded_and_asked_for_other_names(
    folder: Callable[[str], str], name: str, tmp_path: Path
) -> None:
    model = PromptClassifier("cocoop", folder(name), device="cpu", epochs=1, settings={"batch_size": 2})
    model.fit(IMAGES, LABELS)  # three steps
    probabilities = model.predict_proba(IMAGES, OTHERS)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    model.save(tmp_path / "m")
    again = cocoop.load(tmp_path / "m")
    np.testing.assert_allclose(again.predict_proba(IMAGES, OTHERS), probabilities, atol=1e-6)
    assert set(again.predict(IMAGES)) <= set(LABELS)


@pytest.mark.parametrize(("name", "method"), [("open_clip SigLIP", "coop"), ("AlignModel", "cocoop")])
def test_it_is_exported(folder: Callable[[str], str], name: str, method: str) -> None:
    import onnxruntime

    model = PromptClassifier(method, folder(name), device="cpu", epochs=1).fit(IMAGES, LABELS)
    backbone = model.load_backbone()
    views = torch.stack([backbone.preprocess.test(image) for image in IMAGES[:2]])
    session = onnxruntime.InferenceSession(to_onnx(backbone, model.classifier()))
    (ours,) = session.run(None, {"images": views.numpy()})
    np.testing.assert_allclose(ours, model.predict_proba(IMAGES[:2]), atol=1e-4)


def in_the_suite(method: str) -> bool:
    """Whether others are like a method: prompts of every shape, heads, caches, sentences, inside towers."""
    return method in (
        "zeroshot",
        "tcp",
        "deep-language",
        "atprompt",
        "taskres",
        "tip-adapter",
        "cupl",
        "prograd",
        "rpo",
    )


@pytest.mark.parametrize(
    "method",
    [name if in_the_suite(name) else pytest.param(name, marks=pytest.mark.nightly) for name in ordered()],
)
def test_every_method_on_a_tower_without_a_tree(folder: Callable[[str], str], method: str) -> None:
    backbone = load_backbone(folder("AlignModel"), "cpu", "fp32")
    if METHODS.get(method).facts.cut != "feature":
        with pytest.raises(UsageError, match="nothing can be learned inside the image tower"):
            fitted(method, backbone)
        return
    model = fitted(method, backbone)
    np.testing.assert_allclose(model.predict_proba(IMAGES).sum(1), 1, rtol=1e-5)


def test_clip_is_the_same_through_both_libraries(folder: Callable[[str], str]) -> None:
    """The weights of transformers' model under open_clip's names."""
    theirs = load_backbone(folder("CLIPModel"), "cpu", "fp32")
    state, config = theirs.model.state_dict(), theirs.model.config
    ours = open_clip.CLIP(
        config.projection_dim,
        {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16, "mlp_ratio": 1.5},
        families.OWN | {"context_length": 24, "mlp_ratio": 1.5},
        quick_gelu=True,
    )
    layers = {
        "attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
    }  # fmt: skip
    names = {
        "logit_scale": state["logit_scale"],
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "text_projection": state["text_projection.weight"].T,
        "visual.proj": state["visual_projection.weight"].T,
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
    }
    for part in ("weight", "bias"):
        names[f"ln_final.{part}"] = state[f"text_model.final_layer_norm.{part}"]
        names[f"visual.ln_pre.{part}"] = state[f"vision_model.pre_layrnorm.{part}"]
        names[f"visual.ln_post.{part}"] = state[f"vision_model.post_layernorm.{part}"]
        for tower, prefix in (("text_model", ""), ("vision_model", "visual.")):
            for number in range(2):
                own = f"{prefix}transformer.resblocks.{number}"
                other = f"{tower}.encoder.layers.{number}"
                for mine, yours in layers.items():
                    names[f"{own}.{mine}.{part}"] = state[f"{other}.{yours}.{part}"]
                parts = [state[f"{other}.self_attn.{kind}_proj.{part}"] for kind in "qkv"]
                names[f"{own}.attn.in_proj_{part}"] = torch.cat(parts)
    ours.load_state_dict(names)
    backbone = Backbone("ours", FAMILIES_OPEN_CLIP(ours))
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(backbone.encode_image(images), theirs.encode_image(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(frozen_text(backbone), frozen_text(theirs), rtol=0, atol=1e-5)
    assert backbone.logit_scale == pytest.approx(theirs.logit_scale)
    for text in (*TEXTS, "St. Mary's, 100%", "\u82f9\u679c"):
        assert backbone.tokenize(text) == theirs.tokenize(text)


def FAMILIES_OPEN_CLIP(model: open_clip.CLIP) -> object:
    from cocoop.backbones.families.open_clip import parts

    return parts(model)


@pytest.mark.parametrize("name", ["CLIPModel", "SiglipModel", "AlignModel", "ChineseCLIPModel"])
def test_pixels_are_those_of_its_image_processor(
    folder: Callable[[str], str], name: str, tmp_path: Path
) -> None:
    from transformers import CLIPImageProcessor, EfficientNetImageProcessor, SiglipImageProcessor

    edge = {"height": 32, "width": 32}
    processor = {
        "CLIPModel": CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=edge),
        "SiglipModel": SiglipImageProcessor(size=edge),
        "AlignModel": EfficientNetImageProcessor(
            size={"height": 38, "width": 38}, crop_size=edge, do_center_crop=True, resample=2,
            rescale_factor=1 / 127.5, rescale_offset=True, do_normalize=False, include_top=False,
        ),
        "ChineseCLIPModel": CLIPImageProcessor(size={"height": 24, "width": 48}, do_center_crop=False),
    }[name]  # fmt: skip
    place = shutil.copytree(folder(name), tmp_path / "m")
    processor.save_pretrained(place)
    preprocess = load_backbone(str(place), "cpu").preprocess
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((210, 150), Image.Resampling.BICUBIC)
    theirs = torch.as_tensor(np.asarray(processor(image, return_tensors="pt")["pixel_values"][0]))
    ours = preprocess.test(image)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().mean() < 0.01
    assert preprocess.train(image, 1).shape == ours.shape


# ------------------------------------------------------------------ files of one's own


def rewrite(place: str, target: Path, change: Callable[[dict], dict]) -> Path:
    state = load_file(next(Path(place).glob("*.safetensors")))
    torch.save(change(state), target)
    return target


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "clip.model.", ""])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
def test_checkpoints_of_trainers(
    folder: Callable[[str], str], prefix: str, wrapper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder("open_clip CLIP")
    config = json.loads((Path(place) / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny", config)

    def change(state: dict) -> dict:
        named = {f"{prefix}{key}": value for key, value in state.items()}
        if prefix:
            named["average.n"] = torch.zeros(())  # of the trainer
        return {wrapper: named, "epoch": 3} if wrapper else named

    path = rewrite(place, tmp_path / "epoch_3.pt", change)
    assert load_backbone(f"Tiny@{path}", "cpu").weights_digest == load_backbone(place, "cpu").weights_digest


def test_a_file_that_does_not_fit_says_how(
    folder: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder("open_clip CLIP")
    config = json.loads((Path(place) / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny", config)

    def change(state: dict) -> dict:
        del state["ln_final.bias"]
        state["positional_embedding"] = torch.zeros(3, 16)
        return {f"model.{key}": value for key, value in state.items()} | {"model.head.weight": torch.zeros(1)}

    path = rewrite(place, tmp_path / "odd.pt", change)
    with pytest.raises(CocoopError) as caught:
        load_backbone(f"Tiny@{path}")
    message = str(caught.value)
    assert "without the prefix 'model.' of its names" in message
    assert "1 missing: ln_final.bias; 1 unexpected: head.weight" in message
    assert "1 of another shape: positional_embedding (3, 16) for (16, 16)" in message
    assert "\x1b" not in message


@pytest.mark.parametrize("name", ["open_clip CLIP", "SiglipModel"])
def test_shards(folder: Callable[[str], str], name: str, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folder(name), tmp_path / "m"))
    path = next(place.glob("*.safetensors"))
    state = load_file(path)
    path.unlink()
    shards: dict[str, dict] = {}
    for at, (key, value) in enumerate(state.items()):
        shards.setdefault(f"part-{at % 3}.safetensors", {})[key] = value.contiguous()
    for file, part in shards.items():
        save_file(part, place / file)
    index = place / f"{path.name}.index.json"
    index.write_text(json.dumps({"weight_map": {key: file for file, part in shards.items() for key in part}}))
    expected = load_backbone(folder(name), "cpu").weights_digest
    assert load_backbone(str(place), "cpu").weights_digest == expected
    (place / "part-1.safetensors").unlink()
    with pytest.raises(CocoopError, match=r"1 of its 3 shards are missing: 'part-1\.safetensors'"):
        load_backbone(str(place))
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(CocoopError, match="names files outside its folder"):
        load_backbone(str(place))


def test_the_weights_between_two_models(folder: Callable[[str], str], tmp_path: Path) -> None:
    first = folder("SiglipModel")
    second = shutil.copytree(first, tmp_path / "tuned")
    state = {key: value + 1 for key, value in load_file(Path(first) / "model.safetensors").items()}
    save_file(state, second / "model.safetensors", {"format": "pt"})
    mixed = load_backbone(f"{first}+0.25*{second}", "cpu", "fp32")
    plain = load_backbone(first, "cpu", "fp32")
    for key, value in plain.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(mixed.model.state_dict()[key], value + 0.25, rtol=1e-6, atol=1e-6)
    assert mixed.logit_scale == pytest.approx(plain.logit_scale * np.exp(0.25))
    assert load_backbone(f"{first}+0*{second}", "cpu").weights_digest == plain.weights_digest
    for name, message in {
        f"{first}+0.5*{folder('CLIPModel')}": "cannot be interpolated: .*missing",
        f"{first}+1.5*{second}": "is from 0 to 1, not 1.5",
        f"{first}+0.5*{tmp_path / 'nowhere'}": "unknown backbone|is no backbone",
    }.items():
        with pytest.raises(CocoopError, match=message):
            load_backbone(name)


# ------------------------------------------------------------------ refusals


def test_refused_by_name_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(repository: str, name: str, **more: object) -> str:
        fetched.append(name)
        path = tmp_path / name
        path.write_text(json.dumps({"model_type": "llama"}))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    with pytest.raises(UsageError, match="its description says 'llama', which no family takes"):
        load_backbone("hf:someone/llama")
    assert set(fetched) == {"config.json"}


def test_what_is_no_model(tmp_path: Path, folder: Callable[[str], str]) -> None:
    with pytest.raises(UsageError, match="it is not a model folder"):
        load_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CocoopError, match="is not the description of a model"):
        load_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UsageError, match="says 'bert', which no family takes"):
        load_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(CocoopError, match="it has no file of weights"):
        load_backbone(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CocoopError, match="is not a model that transformers saved"):
        load_backbone(str(tmp_path))


def test_a_folder_with_the_weights_of_another(folder: Callable[[str], str], tmp_path: Path) -> None:
    place = shutil.copytree(folder("SiglipModel"), tmp_path / "m")
    shutil.copy(Path(folder("AlignModel")) / "model.safetensors", place)
    with pytest.raises(CocoopError, match=r"does not hold the weights of its config.json: \d+ missing"):
        load_backbone(str(place))


def test_a_model_without_a_tokenizer_or_without_transformers(
    folder: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(shutil.copytree(folder("AlignModel"), tmp_path / "m"))
    for path in place.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(CocoopError, match=r"has no tokenizer: none of tokenizer\.json"):
        load_backbone(str(place))
    (place / "vocab.txt").write_text("[UNK]\n")
    with pytest.raises(CocoopError, match="is empty, or not that of its text tower"):
        load_backbone(str(place))
    place = Path(shutil.copytree(folder("SiglipModel"), tmp_path / "pieces"))
    for path in place.glob("tokenizer*"):
        path.unlink()
    (place / "spiece.model").write_bytes(b"nothing")
    with pytest.raises(
        CocoopError, match=r"no tokenizer for .* that can be read.*pip install 'cocoop\[hf\]'"
    ):
        load_backbone(str(place))
    places = [folder(name) for name in ("AlignModel", "open_clip SigLIP")]
    monkeypatch.setitem(sys.modules, "transformers", None)
    for each in places:
        with pytest.raises(CocoopError, match=r"pip install 'cocoop\[hf\]'"):
            find(each)
    with pytest.raises(
        CocoopError, match=r"ViT-B-16-SigLIP/webli has a tokenizer .*pip install 'cocoop\[hf\]'"
    ):
        find("ViT-B-16-SigLIP/webli")


def test_a_model_of_the_hub_from_its_cache(
    folder: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(folder("CLIPModel"), repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    for name in ("HF_HUB_CACHE",):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path))
    for function in ("hf_hub_download", "snapshot_download", "try_to_load_from_cache"):
        plain = getattr(__import__("huggingface_hub"), function)
        offline = {} if function == "try_to_load_from_cache" else {"local_files_only": True}
        monkeypatch.setattr(
            f"huggingface_hub.{function}",
            lambda *args, plain=plain, offline=offline, **more: plain(
                *args, **{**more, **offline, "cache_dir": tmp_path}
            ),
        )
    assert find("hf:someone/tiny").cached() is True
    expected = load_backbone(folder("CLIPModel"), "cpu").weights_digest
    assert load_backbone("hf:someone/tiny", "cpu").weights_digest == expected
    with pytest.raises(CocoopError, match=r"config\.json of hf:someone/other is neither in"):
        load_backbone("hf:someone/other")
    with pytest.raises(UsageError, match="write hf:OWNER/NAME"):
        load_backbone("hf:a/b/c/d")


def test_every_family_declares_itself() -> None:
    assert len(FAMILIES.names()) >= 6
    for name in FAMILIES.names():
        about = FAMILIES.get(name).about
        assert all((about.name, about.spelled, about.text, about.languages, about.paper, about.example))
        assert about.extra in ("", hub.EXTRA)


def test_a_new_family_is_one_file(folder: Callable[[str], str]) -> None:
    """Nothing in the package names a family but its own file."""
    root = Path(cocoop.__file__).parent
    words = [
        word for name in FAMILIES.names() if name != "open_clip" for word in (f'"{name}"', f"families.{name}")
    ]
    for path in root.rglob("*.py"):
        if path.parent.name != "families":
            text = path.read_text()
            assert not [word for word in words if word in text], path


@pytest.mark.parametrize("name", ["CLIPModel", "AlignModel", "Siglip2Model"])
def test_single_tokens_in_words(folder: Callable[[str], str], name: str) -> None:
    backbone = load_backbone(folder(name), "cpu")
    assert isinstance(backbone.tokenize.vocabulary, HubVocabulary)
    red, inner = backbone.tokenize.inside("red")[0], backbone.tokenize.inside("apples")[-1]
    assert backbone.word(red) == "red"
    if name != "CLIPModel":
        assert backbone.word(inner) == "-s"
    words = dict(backbone.words())
    assert words[red] == "red"
    assert not {*backbone.tokenize.prefix, *backbone.tokenize.suffix} & words.keys()


assert TREES.keys().isdisjoint(PADDED)
