"""An image tower taken apart is the tower, and what is learned inside it is as if open_clip's own had it."""

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop import Backbone, UsageError
from cocoop.backbones.block import Change, Changes
from cocoop.backbones.families.open_clip import parts
from cocoop.backbones.vision import Cut
from cocoop.methods._hooks import WithImage
from cocoop.training import image
from cocoop.utils.seeding import seeded
from tests.conftest import TEXT, VISION_VIT

DEEP = VISION_VIT | {"layers": 3}
CUTS: tuple[Cut, ...] = ("pixels", 0, 1, 2)


@pytest.fixture(scope="module", params=[{}, {"ls_init_value": 0.3}, {"no_ln_pre": True}])
def clip(request: Any) -> Backbone:
    return make(DEEP | request.param)


def make(vision: dict[str, Any]) -> Backbone:
    with seeded(3):
        model = open_clip.CLIP(16, vision, TEXT, quick_gelu=True)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return Backbone("vit", parts(model.double()))


def pixels(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()


def drawn(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()


def by_open_clip(clip: Backbone, images: Tensor, prompts: dict[int, Tensor]) -> Tensor:
    """open_clip's own forward, prompts put in by hooks on its modules."""
    visual: Any = clip.model.visual
    size = next(iter(prompts.values())).shape[1]
    first, handles = min(prompts), []

    def put(number: int) -> Callable[..., tuple[Any, ...]]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            rest = args[0] if number == first else args[0][:, : args[0].shape[1] - size]
            return (torch.cat([rest, prompts[number].expand(len(rest), -1, -1)], 1), *args[1:])

        return hook

    for number in prompts:
        module = visual.transformer.resblocks[number] if number else visual.ln_pre
        handles.append(module.register_forward_pre_hook(put(number)))
    try:
        return clip.model.encode_image(images)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("cut", CUTS)
def test_below_and_above_a_cut_are_the_tower(clip: Backbone, cut: Cut) -> None:
    tower, expected = clip.vision, clip.model.encode_image(pixels())
    state = tower.below(pixels(), cut)
    torch.testing.assert_close(tower.above(state, cut), expected)
    torch.testing.assert_close(clip.encode_image(pixels(), cut), state)
    torch.testing.assert_close(tower.below(pixels(), "projection") @ tower.projection, expected)
    assert tower.state_numbers(cut) == (0 if cut == "pixels" else state[0].numel())


@pytest.mark.parametrize("places", [(0,), (0, 1, 2), (1, 2), (2,)])
def test_prompts_are_those_of_hooks_with_every_gradient(clip: Backbone, places: tuple[int, ...]) -> None:
    prompts = {place: drawn(1, 2, 32, seed=place) for place in places}
    loss = clip.vision.above(pixels(), "pixels", prompts).sin().sum()
    expected = by_open_clip(clip, pixels(), prompts).sin().sum()
    torch.testing.assert_close(loss, expected)
    ours, theirs = (torch.autograd.grad(each, list(prompts.values())) for each in (loss, expected))
    torch.testing.assert_close(ours, theirs)
    if min(places):
        cut = min(places)
        again = clip.vision.above(clip.vision.below(pixels(), cut), cut, prompts).sin().sum()
        torch.testing.assert_close(torch.autograd.grad(again, list(prompts.values())), theirs)


def test_prompts_of_each_image_are_its_own(clip: Backbone) -> None:
    prompts = {0: drawn(3, 2, 32)}
    each = [clip.vision.above(pixels()[i : i + 1], "pixels", {0: prompts[0][i : i + 1]}) for i in range(3)]
    torch.testing.assert_close(clip.vision.above(pixels(), "pixels", prompts), torch.cat(each))


def test_changes_are_those_of_changed_weights() -> None:
    clip, other = make(DEEP), make(DEEP)
    a, b, scale = drawn(2, 32), drawn(96, 2, seed=3), drawn(32, seed=4)
    changes = Changes(
        {1: Change(qkv=lambda x: x @ a.T @ b.T, norm_2=lambda x: F.layer_norm(x, (32,), scale))},
        norm_pre=lambda x: F.layer_norm(x, (32,), scale),
        norm=lambda x: F.layer_norm(x, (32,), None, scale),
    )
    visual: Any = other.model.visual
    with torch.no_grad():
        block = visual.transformer.resblocks[1]
        block.attn.in_proj_weight += b @ a
        block.ln_2.weight.copy_(scale), block.ln_2.bias.zero_()
        visual.ln_pre.weight.copy_(scale), visual.ln_pre.bias.zero_()
        visual.ln_post.weight.fill_(1.0), visual.ln_post.bias.copy_(scale)
    out = clip.vision.above(pixels(), "pixels", changes=changes)
    torch.testing.assert_close(out, other.model.encode_image(pixels()))
    assert all(each.abs().sum() for each in torch.autograd.grad(out.sum(), [a, b, scale]))


def test_what_stands_beside_a_block_is_added_to_what_it_gives(clip: Backbone) -> None:
    changes = Changes({2: Change(beside=lambda x: 0.1 * x.sin())})
    state = clip.vision.below(pixels(), 2)
    block: Any = clip.model.visual.transformer.resblocks[2]  # type: ignore[union-attr]
    expected = clip.vision.run(state, 2) + 0.1 * block.ln_1(state[:, :1]).sin()
    torch.testing.assert_close(clip.vision.run(pixels(), "pixels", changes=changes), expected)


def test_a_mask_hides_prompts_from_all_others(clip: Backbone) -> None:
    tower, prompts = clip.vision, {0: drawn(1, 2, 32)}
    seen = torch.ones(tower.tokens + 2, tower.tokens + 2, dtype=torch.bool)
    seen[:, tower.tokens :] = False
    out = tower.run(pixels(), "pixels", prompts, mask=seen, ends=slice(None))
    assert out.shape == (3, tower.tokens + 2, 32)
    torch.testing.assert_close(tower.project(out[:, 0]), clip.model.encode_image(pixels()))


def test_the_last_block_runs_for_the_tokens_asked_for(clip: Backbone) -> None:
    tower, prompts = clip.vision, {1: drawn(1, 2, 32)}
    seen = torch.rand(tower.tokens + 2, tower.tokens + 2) < 0.9
    seen.fill_diagonal_(True)
    whole = tower.run(pixels(), "pixels", prompts, ends=slice(None))
    assert tower.run(pixels(), "pixels", prompts, ends=[0, -2, -1]).shape == (3, 3, 32)
    for ends in ([0, -2, -1], slice(-2, None), [-1]):
        torch.testing.assert_close(tower.run(pixels(), "pixels", prompts, ends=ends), whole[:, ends])
    masked = tower.run(pixels(), "pixels", {0: prompts[1]}, mask=seen, ends=slice(None))
    some = tower.run(pixels(), "pixels", {0: prompts[1]}, mask=seen, ends=[0, -1])
    torch.testing.assert_close(some, masked[:, [0, -1]])


class Prompted(nn.Module):
    """Prompts as a method has them."""

    cut: Cut = "pixels"

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Parameter(drawn(1, 2, 32))

    def image(self, state: Tensor, tower: Any) -> Tensor:
        out: Tensor = tower.above(state, self.cut, {0: F.dropout(self.vectors, 0.5, self.training)})
        return out


def test_few_images_at_a_time_have_the_same_gradients(clip: Backbone) -> None:
    method = Prompted()
    assert isinstance(method, WithImage)

    def gradient(budget: int) -> Tensor:
        method.vectors.grad = None
        with seeded(1):  # one draw a piece: each is drawn again when it is computed again
            pieces = [image.above(method, clip.vision, part, budget) for part in pixels().split(1)]
        torch.cat(pieces).sin().sum().backward()
        assert method.vectors.grad is not None
        return method.vectors.grad

    torch.testing.assert_close(gradient(1), gradient(1 << 40))
    method.eval()
    whole = image.above(method, clip.vision, pixels(), 1 << 40)
    torch.testing.assert_close(image.above(method, clip.vision, pixels(), 1), whole)


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}, "is a ModifiedResNet"),
        (DEEP | {"attentional_pool": True, "attn_pooler_heads": 2}, "not read at a class token"),
        (DEEP | {"pool_type": "avg"}, "not read at a class token"),
        (DEEP | {"block_type": "custom", "scale_attn": True}, "blocks are not CLIP's"),
    ],
)
def test_other_towers_are_refused_with_the_reason(vision: dict[str, Any], message: str) -> None:
    model = open_clip.CLIP(16, vision, TEXT)
    with pytest.raises(UsageError, match=f"nothing can be learned inside .*: .*{message}"):
        Backbone("other", parts(model)).vision  # noqa: B018


def test_what_is_learned_below_the_cut_is_refused(clip: Backbone) -> None:
    state = clip.vision.below(pixels(), 1)
    with pytest.raises(UsageError, match="below the cut of the image tower, at block 1"):
        clip.vision.above(state, 1, {0: drawn(1, 2, 32)})
    with pytest.raises(UsageError, match="below the cut"):
        clip.vision.above(state, 1, changes=Changes(norm_pre=torch.sin))
    with pytest.raises(UsageError, match="no block 3 in an image tower of 3"):
        clip.vision.above(pixels(), "pixels", {3: drawn(1, 2, 32)})
