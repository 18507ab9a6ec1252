"""Vectors in place of no token: read-only ones behind EOT, and those inserted before a later block."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop import Backbone, UsageError
from cocoop.backbones.block import Change, Changes
from cocoop.text import TextEncoder
from cocoop.text.memory import tree_bytes
from cocoop.text.prompt import Prompt, Slot
from cocoop.text.reference import ReferenceEncoder
from cocoop.text.tower import TextTower
from cocoop.text.tree import build_stages, origins
from tests.conftest import TOWERS, make_tower
from tests.text.test_encoder import NAMES, features_and_gradient

READ_ONLY = Prompt("a photo of a {}.", 1, read_only=True)
INSERTED = Prompt("a photo of a {}.", 2, inserted=1)


def embedded(text: Any, tokens: list[int]) -> Tensor:
    """A prompt at the entrance of the tower."""
    return (text.token_embedding.weight[tokens] + text.positional_embedding[: len(tokens)])[None]


def projected(text: Any, x: Tensor) -> Tensor:
    x, projection = text.ln_final(x), text.text_projection
    x = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return F.normalize(x, dim=-1)


def by_mask(clip: Backbone, prompt: Prompt, names: list[str], contexts: Tensor) -> Tensor:
    """Read-only vectors by open_clip's modules: all samples stand behind one sentence, under one mask."""
    text, classes = clip.text_tower, []
    for label, name in enumerate(names):
        x = embedded(text, clip.tokenize(prompt.fill(name)))
        own = contexts[:, label if contexts.shape[1] > 1 else 0]  # (samples, J, w)
        length, samples = x.shape[1], len(own)
        mask = torch.full((length + samples, length + samples), -torch.inf).double()
        mask[:length, :length] = text.attn_mask[:length, :length]
        mask[length:, :length] = 0
        sets = dict(zip((0, *(prompt.deeper or range(1, own.shape[1]))), own.unbind(1), strict=True))
        for number, block in enumerate(text.transformer.resblocks):
            if number in sets:
                x = torch.cat([x[:, :length], sets[number][None]], 1)
            x = block(x, attn_mask=mask)
        classes.append(projected(text, x[0, length:]))
    return torch.stack(classes, dim=1)


def by_hand(clip: Backbone, prompt: Prompt, names: list[str], contexts: Tensor) -> Tensor:
    """Inserted vectors by open_clip's modules: put behind SOT, and replaced from block to block."""
    text, m, rows = clip.text_tower, prompt.n_ctx, []
    for context in contexts:
        for label, name in enumerate(names):
            x = embedded(text, clip.tokenize(prompt.fill(name)))
            words, sets = x.shape[1] - 1, context[label if len(context) > 1 else 0].split(m)
            first = prompt.inserted
            numbers = (first, *(prompt.deeper or range(first + 1, first + len(sets))))
            vectors = dict(zip(numbers, sets, strict=True))
            for number, block in enumerate(text.transformer.resblocks):
                if number in vectors:
                    x = torch.cat([x[:, :1], vectors[number][None], x[:, -words:]], 1)
                x = block(x, attn_mask=torch.full((x.shape[1],) * 2, -torch.inf).double().triu(1))
            rows.append(projected(text, x[0, -1]))
    return torch.stack(rows).unflatten(0, (len(contexts), len(names)))


def assert_equal(
    clip: Backbone, prompt: Prompt, names: list[str], contexts: Tensor, budget: int | None
) -> None:
    oracle = by_mask if prompt.read_only else by_hand
    ours = features_and_gradient(TextEncoder(clip, [prompt], names, budget), contexts)
    theirs = features_and_gradient(lambda contexts: oracle(clip, prompt, names, contexts), contexts)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-12)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


CASES = {
    "name": st.sampled_from([*["clip-gelu-deep"] * 3, *sorted(TOWERS)]),
    "names": st.lists(st.sampled_from(NAMES), min_size=1, max_size=7),
    "images": st.integers(1, 3),
    "budget": st.sampled_from([None, 150_000, 300_000]),
    "deeper": st.sets(st.integers(1, 3)).map(sorted),
    "class_specific": st.booleans(),
}


@settings(max_examples=10, deadline=None)
@given(**CASES)
def test_read_only_vectors_are_a_mask(
    tower: Callable[[str], Backbone],
    name: str,
    names: list[str],
    images: int,
    budget: int | None,
    deeper: list[int],
    class_specific: bool,
) -> None:
    clip = tower(name)
    blocks = tuple(block for block in deeper if block < len(clip.text.blocks))
    prompt = Prompt("a {}.", 1, class_specific=class_specific, deeper=blocks, read_only=True)
    contexts = drawn(images, len(names) if class_specific else 1, 1 + len(blocks), clip.width)
    assert_equal(clip, prompt, names, contexts, budget)


@settings(max_examples=10, deadline=None)
@given(**CASES, n_ctx=st.integers(1, 3), inserted=st.integers(1, 3))
def test_inserted_vectors_are_put_in_before_a_block(
    tower: Callable[[str], Backbone],
    name: str,
    names: list[str],
    images: int,
    budget: int | None,
    deeper: list[int],
    class_specific: bool,
    n_ctx: int,
    inserted: int,
) -> None:
    clip = tower(name)
    inserted = min(inserted, len(clip.text.blocks) - 1)
    if not inserted:
        return
    blocks = tuple(block for block in deeper if inserted < block < len(clip.text.blocks))
    prompt = Prompt("a {}.", n_ctx, class_specific=class_specific, deeper=blocks, inserted=inserted)
    contexts = drawn(images, len(names) if class_specific else 1, n_ctx * (1 + len(blocks)), clip.width)
    assert_equal(clip, prompt, names, contexts, budget)


def test_without_blocks_of_their_own_vectors_are_replaced_in_each() -> None:
    clip = make_tower("clip-gelu-deep")
    assert_equal(clip, INSERTED, NAMES, drawn(1, 1, 2 * 3, 16), None)
    assert_equal(clip, READ_ONLY, NAMES, drawn(3, 1, 4, 16), None)


def test_a_read_only_vector_that_is_the_end_of_the_prompt_reads_the_rest_of_it() -> None:
    """With EOT's embedding and position it differs from EOT only in what it attends to."""
    clip = make_tower("clip-one-block")
    text, tokens = clip.text_tower, clip.tokenize("a photo of a dog.")
    end = embedded(text, tokens)[0, -1]
    reads = TextEncoder(clip, [READ_ONLY], ["dog"])(end[None, None, None])[0]
    x, block = embedded(text, tokens), text.transformer.resblocks[0]
    query, keys = block.ln_1(end[None, None]), block.ln_1(x)
    x = end + block.attn(query, keys, keys, need_weights=False)[0]
    torch.testing.assert_close(reads, projected(text, (x + block.mlp(block.ln_2(x)))[0]))


@pytest.mark.parametrize("prompt", [READ_ONLY, INSERTED], ids=["read-only", "inserted"])
def test_nothing_is_run_twice(prompt: Prompt) -> None:
    clip = make_tower("clip-gelu-deep")
    names = ["dog", "dog house", "cat"]
    encoder = TextEncoder(clip, [prompt], names)
    vectors = drawn(1, 1, prompt.n_ctx, 16)
    encoder(vectors)
    nodes: list[int] = []
    for block in clip.text_tower.transformer.resblocks:
        block.ln_2.register_forward_hook(lambda module, args, out: nodes.append(out.shape[1]))
    encoder(vectors)
    behind = 2 + 4 + 3 + 3 + 3  # vectors, "a photo of a", and the ends of the names with EOT
    assert nodes == ([3, 3, 3, 3] if prompt.read_only else [0, behind, behind, 3])


@pytest.mark.parametrize("budget", [None, 150_000])
@pytest.mark.parametrize("prompt", [READ_ONLY, INSERTED], ids=["read-only", "inserted"])
def test_some_classes_ensembles_and_one_piece(prompt: Prompt, budget: int | None) -> None:
    clip = make_tower("clip-gelu-deep")
    contexts = drawn(3, 1, prompt.n_ctx, 16)
    whole = TextEncoder(clip, [prompt], NAMES, budget)
    torch.testing.assert_close(whole.in_one_piece()(contexts), whole(contexts), rtol=1e-9, atol=1e-12)
    ours = features_and_gradient(whole.among([6, 0, 3]), contexts)
    theirs = features_and_gradient(lambda each: whole(each)[:, [6, 0, 3]], contexts)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    few = torch.tensor([[1, 3], [0, 2], [8, 8]])
    expected = torch.stack([whole(contexts)[image, labels] for image, labels in enumerate(few)])
    torch.testing.assert_close(whole.some(contexts, few), expected, rtol=1e-9, atol=1e-12)
    both = [prompt, Prompt("a {}.", prompt.n_ctx, inserted=prompt.inserted, read_only=prompt.read_only)]
    each = [TextEncoder(clip, [one], NAMES, budget)(contexts) for one in both]
    average = F.normalize(torch.stack(each).mean(0), dim=-1)
    torch.testing.assert_close(TextEncoder(clip, both, NAMES, budget)(contexts), average)


@pytest.mark.parametrize("prompt", [READ_ONLY, INSERTED], ids=["read-only", "inserted"])
def test_in_a_changed_tower_no_state_is_constant(prompt: Prompt) -> None:
    clip = make_tower("clip-gelu-deep")
    shift, contexts = drawn(16, seed=3).requires_grad_(), drawn(2, 1, prompt.n_ctx, 16)
    changes = Changes({0: Change(beside=lambda x: x * shift), 2: Change(beside=lambda x: x * shift)})
    features = TextEncoder(clip, [prompt], NAMES)(contexts, changes)
    blocks = clip.text_tower.transformer.resblocks
    handles = [
        blocks[number].register_forward_hook(lambda module, args, out: out + module.ln_1(args[0]) * shift)
        for number in (0, 2)
    ]
    oracle = by_mask if prompt.read_only else by_hand
    expected = oracle(clip, prompt, NAMES, contexts)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(features, expected, rtol=1e-9, atol=1e-12)
    ours, theirs = (torch.autograd.grad(each.sin().sum(), shift) for each in (features, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_prompt_may_fill_the_whole_context() -> None:
    clip = make_tower("clip-quickgelu")
    name = " ".join(["dog"] * (clip.context_length - len(clip.tokenize("a photo of a ."))))
    assert len(clip.tokenize(f"a photo of a {name}.")) == clip.context_length
    assert_equal(clip, READ_ONLY, [name, "dog"], drawn(2, 1, 1, 16), None)


def test_slots_stand_where_they_are_added(toy: Backbone) -> None:
    for prompt, place in ((READ_ONLY, -1), (INSERTED, 1)):
        slots = list(prompt.slots(toy.tokenize, ["red_dog"])[0])
        added = [slots.pop(place) for _ in range(prompt.n_ctx)]
        assert sorted(added) == [Slot(ctx=index, block=prompt.inserted) for index in range(prompt.n_ctx)]
        assert [slot.token for slot in slots] == toy.tokenize("a photo of a red dog.")


def test_what_comes_in_late_parts_from_nothing() -> None:
    sot, dog, cat, end = (Slot(token=index) for index in range(4))
    late = Slot(ctx=0, block=2)
    first, second = build_stages([(sot, late, dog, end), (sot, late, cat, end)], 3)
    assert (first.tree.varying, second.tree.constant, first.blocks, second.blocks) == (
        0,
        1,
        range(2),
        range(2, 3),
    )
    found = origins(second.tree, first.tree)
    tokens = [(int(second.tree.token[node]), int(first.tree.token[found[node]])) for node in range(6)]
    assert all(ours == theirs for ours, theirs in tokens if ours >= 0)


def test_the_memory_plan_knows_when_vectors_come_in_and_where(tower: Callable[[str], Backbone]) -> None:
    clip = tower("clip-gelu-deep")
    text = TextTower(clip.text, torch.float64)

    def need(prompt: Prompt) -> int:
        return tree_bytes(prompt.slots(clip.tokenize, NAMES), text, grad=True)

    assert need(Prompt("X {}.", 1)) > need(Prompt("{}.", 1, read_only=True))
    late = [need(Prompt("{}.", 1, inserted=block)) for block in (1, 2, 3)]
    assert late == sorted(late, reverse=True)
    assert len(set(late)) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_ctx": 2, "read_only": True}, "a read-only prompt has one vector, not 2"),
        (
            {"n_ctx": 1, "read_only": True, "inserted": 1},
            "read-only, or inserted before a block, or in place",
        ),
        ({"n_ctx": 1, "inserted": -1}, "read-only, or inserted before a block, or in place"),
        ({"n_ctx": 1, "inserted": 1, "places": (0,)}, "read-only, or inserted before a block, or in place"),
        ({"n_ctx": 1, "inserted": 1, "class_specific": True, "shared_blocks": 1}, "or in place of tokens"),
        ({"n_ctx": 1, "inserted": 2, "deeper": (2,)}, "in order, from 3 on"),
    ],
)
def test_prompts_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Prompt("a {}.", **settings)


def test_towers_that_cannot_have_them(
    model: Callable[[str], Backbone], tower: Callable[[str], Backbone]
) -> None:
    for prompt in (READ_ONLY, INSERTED):
        with pytest.raises(UsageError, match=r"in place of no token are no part of the text tower of .*: .+"):
            TextEncoder(model("SiglipModel"), [prompt], NAMES)
        with pytest.raises(ValueError, match="in place of tokens alone"):
            ReferenceEncoder(tower("clip-quickgelu"), prompt, NAMES)
    with pytest.raises(UsageError, match="no block 2 in the text tower of clip-quickgelu, of 2"):
        TextEncoder(tower("clip-quickgelu"), [Prompt("a {}.", 1, inserted=2)], NAMES)
