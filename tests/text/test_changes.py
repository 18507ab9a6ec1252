"""A text tower in which a method changes blocks is the tower with changed weights, in fp64."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocoop import Backbone, UsageError
from cocoop.backbones.block import Change, Changes
from cocoop.text import TextEncoder, pieces
from cocoop.text.prompt import Prompt, context_template
from cocoop.text.reference import ReferenceEncoder
from cocoop.utils.seeding import seeded
from tests.conftest import make_tower

NAMES = ["red apple", "green tea", "dog", "dog house", "red"]


@pytest.fixture(scope="module", params=["clip-gelu-deep", "clip-one-block", "layer-scale"])
def clip(request: pytest.FixtureRequest) -> Backbone:
    return make_tower(request.param)


def drawn(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()


def changed(clip: Backbone) -> tuple[Changes, list[Tensor], Backbone]:
    """Changes of the last block and the last norm, what they are made of, and a tower that has them."""
    a, b, scale = drawn(2, 16), drawn(48, 2, seed=3), drawn(16, seed=4)
    last = len(clip.text.blocks) - 1
    changes = Changes(
        {last: Change(qkv=lambda x: x @ a.T @ b.T, norm_1=lambda x: F.layer_norm(x, (16,), scale))},
        norm=lambda x: F.layer_norm(x, (16,), scale),
    )
    other = deepcopy(clip)
    text = other.text_tower
    block = text.transformer.resblocks[last]
    with torch.no_grad():
        block.attn.in_proj_weight += b @ a
        for norm in (block.ln_1, text.ln_final):
            norm.weight.copy_(scale), norm.bias.zero_()
    return changes, [a, b, scale], other


@pytest.mark.parametrize("budget", [None, 300_000])
def test_learned_vectors_in_a_changed_tower(clip: Backbone, budget: int | None) -> None:
    changes, learned, other = changed(clip)
    prompt = Prompt(context_template("a photo of a", 4), 4)
    contexts = drawn(2, 1, 4, 16, seed=5)
    features = TextEncoder(clip, [prompt], NAMES, budget)(contexts, changes)
    torch.testing.assert_close(features, ReferenceEncoder(other, prompt, NAMES)(contexts))
    gradients = torch.autograd.grad(features.sin().sum(), [contexts, *learned])
    whole = TextEncoder(clip, [prompt], NAMES, 1 << 40)(contexts, changes)
    torch.testing.assert_close(gradients, torch.autograd.grad(whole.sin().sum(), [contexts, *learned]))
    direction = [drawn(*each.shape, seed=9).detach() for each in learned]
    slope = sum((g * d).sum() for g, d in zip(gradients[1:], direction, strict=True))
    with torch.no_grad():
        ahead, back = (moved(clip, contexts, prompt, learned, direction, step) for step in (1e-5, -1e-5))
    torch.testing.assert_close(slope, (ahead - back) / 2e-5, rtol=1e-5, atol=1e-7)


def moved(
    clip: Backbone, contexts: Tensor, prompt: Prompt, learned: list[Tensor], way: list[Tensor], step: float
) -> Tensor:
    """The sum of the test above, a little further along a way."""
    for each, direction in zip(learned, way, strict=True):
        each.add_(step * direction)
    changes, own, _ = changed(clip)
    for each, value in zip(own, learned, strict=True):
        each.copy_(value)
    total = TextEncoder(clip, [prompt], NAMES)(contexts, changes).sin().sum()
    for each, direction in zip(learned, way, strict=True):
        each.sub_(step * direction)
    return total


def by_open_clip(clip: Backbone) -> Tensor:
    rows = [clip.tokenize(f"a photo of a {name}.") for name in NAMES]
    rows = [row + [0] * (clip.context_length - len(row)) for row in rows]
    return F.normalize(clip.model.encode_text(torch.tensor(rows)), dim=-1)  # type: ignore[operator]


def test_prompts_without_learned_vectors_change_too(clip: Backbone) -> None:
    changes, learned, other = changed(clip)
    encode = TextEncoder(clip, [Prompt("a photo of a {}.")], NAMES)
    nothing = torch.empty(1, 1, 0, 16).double()
    features = encode(nothing, changes)
    torch.testing.assert_close(features[0], by_open_clip(other))
    assert all(each.abs().sum() for each in torch.autograd.grad(features.sin().sum(), learned))
    torch.testing.assert_close(encode(nothing)[0], by_open_clip(clip))


def test_a_recomputed_piece_draws_what_it_drew(clip: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, contexts = drawn(16, seed=6), torch.empty(1, 1, 0, 16).double()
    changes = Changes({0: Change(beside=lambda x: F.dropout(x * weight, 0.5))})
    few = TextEncoder(clip, [Prompt("a photo of a {}.")], NAMES, 40_000 + 25_000 * len(clip.text.blocks))

    def gradient() -> Tensor:
        with seeded(0):
            features = few(contexts, changes)
            return torch.autograd.grad(features.sin().sum(), weight)[0]

    recomputed, calls = gradient(), []
    monkeypatch.setattr(pieces, "checkpoint", lambda run, images, **_: calls.append(1) or run(images))
    torch.testing.assert_close(recomputed, gradient())
    assert len(calls) > 1


def test_a_tower_without_a_token_tree_is_refused(model: object) -> None:
    clip = model("SiglipModel")  # type: ignore[operator]
    nothing = torch.empty(1, 1, 0, clip.width).double()
    with pytest.raises(UsageError, match=r"blocks of the text tower of .* cannot be changed"):
        TextEncoder(clip, [Prompt("a {}.")], NAMES)(nothing, Changes(norm=torch.sin))
