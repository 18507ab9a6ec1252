"""On CUDA everything gives what the CPU gives in fp64, and replayed kernels what eager ones give."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import cocoop
from benchmarks.fit import bench_fit
from benchmarks.text import PROMPT, class_names
from cocoop import Backbone, load_backbone
from cocoop.cli import main
from cocoop.experiments.store import Store
from cocoop.methods import METHODS, build
from cocoop.methods._hooks import Bank, WithFit, views_of
from cocoop.text import TextEncoder
from cocoop.training.classifier import Classifier
from tests.described import described
from tests.estimator.test_estimator import painted
from tests.methods.banks import states

pytestmark = pytest.mark.gpu
NAMES = ["red apple", "red car", "dog", "dog house", "xylophone", "a"]
TOLERANCE = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 5e-2, "bf16": 0.5}  # of logits that span about 30


@cache
def in_fp64(backbone: str) -> Backbone:
    clip = load_backbone(backbone, "cpu", "fp32")
    clip.model.double()
    return clip


@pytest.fixture(scope="module")
def exact() -> Backbone:
    return in_fp64("tiny-clip")


def made(name: str, clip: Backbone) -> Any:
    config = described(METHODS.get(name).config_type(), NAMES)
    return build(name, config, clip, template="a photo of a {}.", n_classes=len(NAMES), seed=1)


def step(clip: Backbone, name: str, images: Tensor, budget: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of the cross-entropy by all that is learned, of the third of equal steps."""
    dtype = clip.token_embedding.dtype
    method = made(name, clip)
    method.to(dtype=dtype)
    method.eval()  # the same random numbers in every step
    classifier = Classifier(clip, method, NAMES, budget)
    labels = torch.arange(len(images), device=clip.device)
    learned = [parameter for parameter in method.parameters() if parameter.requires_grad]
    for _ in range(3):  # the third is replayed
        logits = classifier(images.to(clip.device, dtype))
        loss = F.cross_entropy(logits, labels)
        gradient = torch.autograd.grad(loss, learned, materialize_grads=True) if learned else ()
    flat = torch.cat([part.flatten() for part in gradient]) if gradient else torch.zeros(1)
    return logits.detach().double().cpu(), flat.double().cpu()


@pytest.mark.parametrize("budget", [None, 3_000_000], ids=["whole", "in chunks"])
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", METHODS.names())
def test_logits_and_gradients(name: str, precision: str, budget: int | None) -> None:
    inside = METHODS.get(name).facts.cut != "feature"
    backbone = "toy" if inside else "tiny-clip"  # which is no vision transformer
    exact = in_fp64(backbone)
    images = states(made(name, exact), exact, 3)
    logits, gradient = step(load_backbone(backbone, "cuda", precision), name, images, budget)
    right, right_gradient = step(exact, name, images)
    # what is learned inside towers is computed in bf16 where all else is in fp16; logits span about 50
    tolerance = (
        2 * TOLERANCE["bf16" if precision == "fp16" else precision] if inside else TOLERANCE[precision]
    )
    assert (logits - right).abs().max() < tolerance
    assert (gradient - right_gradient).norm() <= tolerance * right_gradient.norm()


@pytest.mark.parametrize("name", [n for n in METHODS.names() if METHODS.get(n).facts.sees_test_images])
def test_methods_that_see_test_images_answer_alike(name: str, exact: Backbone) -> None:
    def answers(clip: Backbone) -> Tensor:
        dtype = clip.token_embedding.dtype
        method = build(
            name, METHODS.get(name).config_type(), clip, template="a {}.", n_classes=len(NAMES), seed=1
        )
        method.to(dtype=dtype)
        drawn = torch.randn(
            30, views_of(method).count, clip.embed_dim, generator=torch.Generator().manual_seed(1)
        )
        if isinstance(method, WithFit):
            shots, labels = drawn[None, : len(NAMES), 0].to(clip.device, dtype), torch.arange(len(NAMES))
            labels = labels.to(clip.device)
            method.fit(Bank(shots, labels, shots[0], labels, clip.logit_scale, {}, {}, 1))
        return Classifier(clip, method, NAMES).predict(drawn.to(dtype)).double().softmax(1)

    torch.testing.assert_close(
        answers(load_backbone("tiny-clip", "cuda", "fp32")), answers(exact), rtol=1e-2, atol=1e-3
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_replayed_kernels_give_the_same_values(precision: str) -> None:
    clip = load_backbone("tiny-clip", "cuda", precision)
    encoder = TextEncoder(clip, [PROMPT], class_names(200))
    words = clip.embed_words("a photo of a")
    draws = [words + 0.1 * torch.randn(2, 1, *words.shape, device="cuda") for _ in range(5)]

    def both(contexts: Tensor) -> tuple[Tensor, Tensor]:
        contexts = contexts.clone().requires_grad_()
        features = encoder(contexts)
        features[..., ::3].sum().backward()
        assert contexts.grad is not None
        return features.detach(), contexts.grad

    eager = [both(contexts) for contexts in draws[:2]]
    (chunk,) = encoder._encoders[0]._chunks.values()
    assert not chunk._recordings
    replayed = [both(contexts) for contexts in draws]
    assert len(chunk._recordings) == 1
    for ours, theirs in zip(replayed[:2], eager, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3 if precision == "fp16" else 1e-5, atol=1e-5)
    with torch.no_grad():
        for contexts, (features, _) in zip(draws * 2, replayed * 2, strict=True):
            torch.testing.assert_close(encoder(contexts), features, rtol=1e-3, atol=1e-4)


def test_two_passes_before_a_backward_one_do_not_disturb_each_other() -> None:
    clip = load_backbone("tiny-clip", "cuda", "fp32")
    encoder = TextEncoder(clip, [PROMPT], class_names(20))
    words = clip.embed_words("a photo of a")
    first, second = (
        (words + 0.1 * torch.randn(1, 1, *words.shape, device="cuda")).requires_grad_() for _ in range(2)
    )
    alone = [
        torch.autograd.grad(encoder(contexts)[..., 0].sum(), contexts)[0] for contexts in (first, second)
    ]
    for _ in range(3):
        together = encoder(first)[..., 0].sum() + encoder(second)[..., 0].sum()
        torch.testing.assert_close(torch.autograd.grad(together, (first, second)), tuple(alone))


def test_a_late_backward_pass_is_refused() -> None:
    clip = load_backbone("tiny-clip", "cuda", "fp32")
    encoder = TextEncoder(clip, [PROMPT], class_names(20))
    contexts = clip.embed_words("a photo of a")[None, None].requires_grad_()
    for _ in range(3):
        loss = encoder(contexts).sum()
        loss.backward(retain_graph=True)
    encoder(contexts).sum().backward()
    with pytest.raises(RuntimeError, match="overwritten"):
        loss.backward()


def test_large_inputs_and_small_budgets_are_not_recorded() -> None:
    clip = load_backbone("tiny-clip", "cuda", "fp32")
    encoder = TextEncoder(clip, [PROMPT], class_names(1000))
    contexts = clip.embed_words("a photo of a").expand(64, 1, -1, -1)
    with torch.no_grad():
        several = [encoder(contexts) for _ in range(4)]
    torch.testing.assert_close(several[0], several[-1])
    assert not any(chunk._recordings for chunk in encoder._encoders[0]._chunks.values())


def test_a_whole_fit_is_that_of_the_reference_path() -> None:
    result = bench_fit("emoji/food", "toy", epochs=2, shots=2)
    assert result["max_relative_loss_diff"] < 0.05  # fp16 beside fp32


def test_fit_save_load_predict(tmp_path: Path) -> None:
    images, labels = painted(3)
    model = cocoop.CoCoOp("toy", epochs=2).fit(images, labels)
    assert model.load_backbone().device.type == "cuda"
    model.save(tmp_path / "model")
    loaded = cocoop.load(tmp_path / "model")
    assert (loaded.predict(images) == model.predict(images)).all()
    on_cpu = cocoop.load(tmp_path / "model", device="cpu", precision="fp32")
    torch.testing.assert_close(
        torch.tensor(on_cpu.predict_proba(images)),
        torch.tensor(model.predict_proba(images)),
        atol=0.02,
        rtol=0,
    )
    assert copy.deepcopy(loaded).predict(images[:1]) == loaded.predict(images[:1])


def command(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0


def test_the_commands(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = f"base-to-new --datasets emoji/food --backbone toy --seeds 1 --shots 2 --out {runs}"
    command("run", *words.split(), "--set", "coop.epochs=1", "--set", "cocoop.epochs=1")
    assert len(list(Store(runs).records())) == 6
    command("data", "export", "emoji/food", "--out", str(tmp_path / "photos"))
    model, photos = str(tmp_path / "model"), str(tmp_path / "photos")
    command("fit", photos, "--out", model, "--backbone", "toy", "--epochs", "1")
    command("predict", model, photos, "--classes", "teapot,violin")
    command("export", model, "--out", str(tmp_path / "onnx"), "--classes", "teapot,violin")
    assert (tmp_path / "onnx" / "model.onnx").exists()
