"""Learned vectors that overwrite states between the blocks: shared by the classes, or each class's own."""

from bisect import bisect_left
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoop import Backbone, UsageError
from cocoop.text import TextEncoder
from cocoop.text.memory import choose_chunking
from cocoop.text.prompt import Prompt
from cocoop.text.reference import ReferenceEncoder
from cocoop.text.tower import TextTower
from tests.conftest import TOWERS, make_tower
from tests.text.test_encoder import NAMES, assert_same


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from([*["clip-gelu-deep"] * 3, *sorted(TOWERS)]),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=7),
    n_ctx=st.integers(1, 4),
    position=st.sampled_from(["end", "middle", "front"]),
    images=st.integers(1, 3),
    budget=st.sampled_from([None, 150_000, 300_000]),
    deeper=st.sets(st.integers(1, 3)).map(sorted),
    shared_blocks=st.integers(0, 3),
    class_specific=st.booleans(),
)
def test_vectors_of_chosen_blocks_equal_the_reference(
    tower: Callable[[str], Backbone],
    name: str,
    names: list[str],
    n_ctx: int,
    position: str,
    images: int,
    budget: int | None,
    deeper: list[int],
    shared_blocks: int,
    class_specific: bool,
) -> None:
    last = len(tower(name).text_tower.transformer.resblocks) - 1
    prompt = Prompt(
        f"{' '.join('X' * n_ctx)} {{}}.",
        n_ctx,
        position,  # type: ignore[arg-type]
        class_specific,
        deeper=tuple(block for block in deeper if block <= last),
        shared_blocks=min(shared_blocks, last) if class_specific else 0,
    )
    assert_same(tower(name), prompt, names, images, budget, 1 + len(prompt.deeper))


def test_only_the_blocks_above_pay_for_vectors_of_every_class() -> None:
    backbone = make_tower("clip-gelu-deep")
    prompt = Prompt("X X {}.", 2, class_specific=True, deeper=(2,), shared_blocks=2)
    encoder = TextEncoder(backbone, [prompt], ["dog", "dog house", "cat"])
    vectors = torch.randn(1, 3, 4, backbone.width, dtype=torch.float64)
    encoder(vectors)
    nodes: list[int] = []
    for block in backbone.text_tower.transformer.resblocks:
        block.ln_2.register_forward_hook(lambda module, args, out: nodes.append(out.shape[1]))
    encoder(vectors)
    shared = 2 + 3 + 3 + 3  # the vectors, and the ends "dog.", "house." and "cat." with EOT
    own = 3 * 2 + 3 + 4 + 3
    assert nodes == [shared, shared, own, 3]


def test_deeper_rows_that_equal_the_undisturbed_states_change_nothing(
    tower: Callable[[str], Backbone],
) -> None:
    backbone = tower("clip-gelu-deep")
    context = torch.randn(1, 1, 1, backbone.width, dtype=torch.float64)
    encoder = TextEncoder(backbone, [Prompt("a {}.", 1)], ["dog"])
    states: list[torch.Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda module, args: states.append(args[0][:, 1]))
        for block in backbone.text_tower.transformer.resblocks
    ]
    ReferenceEncoder(backbone, Prompt("a {}.", 1), ["dog"])(context)
    for hook in hooks:
        hook.remove()
    deep = torch.cat([context, *(state[None, None] for state in states[1:])], dim=2)
    torch.testing.assert_close(encoder(deep), encoder(context), rtol=1e-9, atol=1e-12)


def test_the_memory_plan_knows_what_the_classes_share(tower: Callable[[str], Backbone]) -> None:
    backbone = tower("clip-gelu-deep")
    text = TextTower(backbone.text, torch.float64)
    slots = Prompt("X X X X {}.", 4, class_specific=True).slots(backbone.tokenize, NAMES)

    def fits(shared_blocks: int, budget: int) -> bool:
        return not choose_chunking(slots, text, 1, budget, True, shared_blocks).recompute

    budgets = range(200_000, 2_000_000, 10_000)
    least = [bisect_left(budgets, True, key=partial(fits, blocks)) for blocks in range(4)]
    assert len(budgets) > least[0] > least[1] > least[2] > least[3] > 0


@pytest.mark.parametrize(
    ("deeper", "shared_blocks", "message"),
    [((4,), 0, "no block 4 in the text tower of clip-gelu-deep, of 4"), ((2,), 4, "no block 4")],
)
def test_vectors_for_blocks_that_are_not_there(
    tower: Callable[[str], Backbone], deeper: tuple[int, ...], shared_blocks: int, message: str
) -> None:
    prompt = Prompt("a {}.", 1, class_specific=True, deeper=deeper, shared_blocks=shared_blocks)
    with pytest.raises(UsageError, match=message):
        TextEncoder(tower("clip-gelu-deep"), [prompt], NAMES)
