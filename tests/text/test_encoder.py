"""The text engine computes what the released implementation computes: features and every gradient."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cocoop import Backbone
from cocoop.backbones.open_clip_text import text_model
from cocoop.errors import CocoopError, UsageError
from cocoop.text import TextEncoder, memory
from cocoop.text.memory import choose_chunking
from cocoop.text.prompt import Prompt
from cocoop.text.reference import ReferenceEncoder
from cocoop.text.tower import TextTower
from tests.conftest import TEXT, TOWERS, VISION, make_tower

NAMES = ["red apple", "red car", "red", "dog", "dog house", "green tea", "a", "xylophone", "red apple pie"]


def features_and_gradient(encode: Callable, contexts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    contexts = contexts.clone().requires_grad_()
    features = encode(contexts)
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features).sin()
    (gradient,) = torch.autograd.grad((features * weights).sum(), contexts)
    return features.detach(), gradient


def assert_same(
    backbone: Backbone, prompt: Prompt, names: list[str], images: int, budget: int | None, depth: int = 1
) -> None:
    classes = len(names) if prompt.class_specific else 1
    generator = torch.Generator().manual_seed(images)
    contexts = torch.randn(
        images, classes, depth * prompt.n_ctx, backbone.width, dtype=torch.float64, generator=generator
    )
    encoder = TextEncoder(backbone, [prompt], names, budget)
    ours = features_and_gradient(encoder, contexts)
    theirs = features_and_gradient(ReferenceEncoder(backbone, prompt, names), contexts)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(TOWERS)),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=7),
    n_ctx=st.integers(1, 4),
    position=st.sampled_from(["end", "middle", "front"]),
    class_specific=st.booleans(),
    images=st.integers(1, 3),
    budget=st.sampled_from([None, 150_000, 300_000, 10**9]),
    depth=st.integers(1, 4),
)
def test_equal_to_the_reference(
    tower: Callable[[str], Backbone],
    name: str,
    names: list[str],
    n_ctx: int,
    position: str,
    class_specific: bool,
    images: int,
    budget: int | None,
    depth: int,
) -> None:
    depth = min(depth, len(tower(name).text_tower.transformer.resblocks))
    words = " ".join(["a", "photo", "of", "a"][:n_ctx])
    prompt = Prompt(f"{words} {{}}.", n_ctx, position, class_specific)  # type: ignore[arg-type]
    assert_same(tower(name), prompt, names, images, budget, depth)


@pytest.mark.parametrize("name", sorted(TOWERS))
def test_templates_equal_open_clip(tower: Callable[[str], Backbone], name: str) -> None:
    backbone = tower(name)
    encoder = TextEncoder(backbone, [Prompt("a photo of a {}.")], NAMES)
    ours = encoder(torch.empty(1, 1, 0, backbone.width, dtype=torch.float64))[0]
    padded = [backbone.tokenize(f"a photo of a {name}.") for name in NAMES]
    tokens = torch.tensor([row + [0] * (backbone.context_length - len(row)) for row in padded])
    theirs = backbone.model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_untrained_context_equals_its_words(tower: Callable[[str], Backbone]) -> None:
    backbone = tower("clip-quickgelu")
    context = backbone.embed_words("a photo of a")[None, None]
    learned = TextEncoder(backbone, [Prompt("a photo of a {}.", 4)], NAMES)(context)
    fixed = TextEncoder(backbone, [Prompt("a photo of a {}.")], NAMES)(context[:, :, :0])
    torch.testing.assert_close(learned, fixed, rtol=1e-9, atol=1e-12)


def test_an_ensemble_averages_normalised_features(tower: Callable[[str], Backbone]) -> None:
    backbone = tower("clip-quickgelu")
    none = torch.empty(1, 1, 0, backbone.width, dtype=torch.float64)
    prompts = [Prompt("a photo of a {}."), Prompt("{} texture.")]
    each = [TextEncoder(backbone, [prompt], NAMES)(none) for prompt in prompts]
    both = TextEncoder(backbone, prompts, NAMES)(none)
    torch.testing.assert_close(both, F.normalize((each[0] + each[1]) / 2, dim=-1))


def test_equal_names_keep_their_own_place(tower: Callable[[str], Backbone]) -> None:
    backbone = tower("clip-quickgelu")
    features = TextEncoder(backbone, [Prompt("a {}.", 1)], ["cat", "dog", "cat"])(
        torch.randn(1, 1, 1, backbone.width, dtype=torch.float64)
    )
    assert features.shape[1] == 3
    assert torch.equal(features[:, 0], features[:, 2])


def test_chunks_change_nothing_but_memory(tower: Callable[[str], Backbone]) -> None:
    backbone = tower("clip-gelu-deep")
    prompt = Prompt("a photo of a {}.", 4)
    contexts = torch.randn(3, 1, 4, backbone.width, dtype=torch.float64)
    whole = TextEncoder(backbone, [prompt], NAMES)
    small = TextEncoder(backbone, [prompt], NAMES, memory_budget=150_000)
    for mine, theirs in zip(
        features_and_gradient(small, contexts), features_and_gradient(whole, contexts), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)
    assert len(small._encoders[0]._chunks) > len(whole._encoders[0]._chunks) == 1


def test_freed_memory_is_handed_back_only_where_the_process_holds_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trimmed: list[int] = []
    monkeypatch.setattr(memory, "_glibc", lambda: SimpleNamespace(malloc_trim=trimmed.append))
    memory.release_free_memory(limit=1 << 60)
    assert not trimmed
    memory.release_free_memory(limit=memory.resident_memory() // 2)
    assert trimmed == [0]


def test_a_chunk_leaves_room_for_the_memory_of_earlier_ones(tower: Callable[[str], Backbone]) -> None:
    backbone = tower("clip-quickgelu")
    slots = Prompt("a photo of a {}.", 4).slots(backbone.tokenize, NAMES)
    text = TextTower(backbone.text, torch.float64)
    kept = choose_chunking(slots, text, 32, 1 << 40, grad=True)
    assert (kept.images, kept.classes, kept.recompute) == (32, len(NAMES), False)
    fits = [n for n in range(1, 33) if not choose_chunking(slots, text, n, 10**7, grad=True).recompute]
    whole = max(fits)
    cut = choose_chunking(slots, text, whole + 1, 10**7, grad=True)
    assert (cut.classes, cut.recompute) == (len(NAMES), True)
    assert cut.images in (whole // 4, (whole + 1) // 4)


def test_a_budget_too_small_for_one_class_names_the_least(tower: Callable[[str], Backbone]) -> None:
    backbone = tower("clip-quickgelu")
    encoder = TextEncoder(backbone, [Prompt("a {}.", 1)], NAMES, memory_budget=100)
    with pytest.raises(UsageError, match=r"too small: one class needs \d+"):
        encoder(torch.randn(1, 1, 1, backbone.width, dtype=torch.float64))


def test_frozen_weights_get_no_gradient(tower: Callable[[str], Backbone]) -> None:
    backbone = tower("clip-quickgelu")
    contexts = torch.randn(1, 1, 1, backbone.width, dtype=torch.float64, requires_grad=True)
    TextEncoder(backbone, [Prompt("a {}.", 1)], NAMES)(contexts).sum().backward()
    assert contexts.grad is not None
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def test_single_precision_bound() -> None:
    """At CLIP's logit scale of 100, fp32 logits are within 1e-3 of the fp64 reference."""
    single, double = make_tower("clip-gelu-deep", torch.float32), make_tower("clip-gelu-deep")
    prompt = Prompt("a photo of a {}.", 4)
    contexts = torch.randn(2, 1, 4, double.width, dtype=torch.float64)
    image = F.normalize(torch.randn(2, double.embed_dim, dtype=torch.float64), dim=-1)
    exact = torch.einsum("bd,bcd->bc", image, ReferenceEncoder(double, prompt, NAMES)(contexts))
    ours = TextEncoder(single, [prompt], NAMES)(contexts.float())
    assert (100 * (torch.einsum("bd,bcd->bc", image, ours.double()) - exact)).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"no_causal_mask": True}, "not causal"),
        ({"pool_type": "last"}, "pooled by 'last'"),
        ({"embed_cls": True}, "class token"),
        ({"block_type": "custom", "qk_norm": True}, "blocks are not CLIP's"),
    ],
)
def test_other_towers_have_no_token_tree(changes: dict, reason: str) -> None:
    text = text_model(open_clip.CustomTextCLIP(16, VISION, TEXT | changes))
    assert reason in text.reason
    with pytest.raises(CocoopError, match=reason):
        TextTower(text)


# (largest logit error at logit scale 100, relative error of the gradient) against fp64
BOUNDS = {"fp32": (1e-3, 1e-4), "bf16": (1.0, 0.1), "fp16": (0.1, 0.01)}


@pytest.mark.parametrize("precision", sorted(BOUNDS))
@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_low_precision_bounds(precision: Any, size: float) -> None:
    """However small the loss, fp16 gradients keep their digits."""
    double, low = make_tower("clip-gelu-deep"), make_tower("clip-gelu-deep", torch.float32)
    low.precision = precision
    prompt = Prompt("a photo of a {}.", 4)
    generator = torch.Generator().manual_seed(5)
    contexts = 0.1 * torch.randn(2, 1, 4, double.width, dtype=torch.float64, generator=generator)
    image = F.normalize(torch.randn(2, double.embed_dim, dtype=torch.float64, generator=generator), dim=-1)

    def logits_and_gradient(encode: Callable, contexts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        contexts = contexts.clone().requires_grad_()
        features = encode(contexts)
        logits = 100 * torch.einsum("bd,bcd->bc", image.to(features), features)
        loss = size * F.cross_entropy(logits, torch.tensor([0, 1]))
        return logits.detach().double(), torch.autograd.grad(loss, contexts)[0].double()

    exact = logits_and_gradient(ReferenceEncoder(double, prompt, NAMES), contexts)
    ours = logits_and_gradient(TextEncoder(low, [prompt], NAMES), contexts.float())
    logit_bound, gradient_bound = BOUNDS[precision]
    assert (ours[0] - exact[0]).abs().max() < logit_bound
    assert (ours[1] - exact[1]).norm() / exact[1].norm() < gradient_bound
    assert all(weight.dtype == torch.float32 for weight in low.model.parameters())
