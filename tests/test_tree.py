"""The token tree, against its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cocoop.prompts import Slot
from cocoop.text.tree import build_tree

EOT = Slot(token=9)
slots = st.one_of(
    st.integers(0, 3).map(lambda token: Slot(token=token)),
    st.tuples(st.integers(0, 1), st.integers(-1, 1)).map(lambda pair: Slot(ctx=pair[0], cls=pair[1])),
)
prompts = st.lists(st.lists(slots, max_size=5).map(lambda body: (*body, EOT)), min_size=1, max_size=8)


@given(prompts)
def test_paths_spell_the_prompts(given_prompts: list[tuple[Slot, ...]]) -> None:
    tree = build_tree(given_prompts)
    for prompt, row in zip(given_prompts, tree.prompt_of.tolist(), strict=True):
        path = tree.paths[row].tolist()[: int(tree.lengths[row])]
        spelt = [Slot(int(tree.token[n]), int(tree.ctx[n]), int(tree.cls[n])) for n in path]
        assert tuple(spelt) == prompt
        assert tree.depth[path].tolist() == list(range(len(prompt)))
        assert tree.leaves[row] == path[-1]


@given(prompts)
def test_one_node_for_every_distinct_beginning(given_prompts: list[tuple[Slot, ...]]) -> None:
    beginnings = {prompt[: end + 1] for prompt in given_prompts for end in range(len(prompt))}
    tree = build_tree(given_prompts)
    assert tree.nodes == len(beginnings)
    assert len(tree.paths) == len(set(given_prompts))
    constant = sum(all(slot.ctx < 0 for slot in beginning) for beginning in beginnings)
    assert tree.constant == constant
    assert tree.varying == tree.nodes - constant


@given(prompts)
def test_parents_precede_children(given_prompts: list[tuple[Slot, ...]]) -> None:
    tree = build_tree(given_prompts)
    for path, length in zip(tree.paths.tolist(), tree.lengths.tolist(), strict=True):
        states = [node < tree.constant for node in path[:length]]
        assert states == sorted(states, reverse=True)  # constant, then varying
        varying = [node for node in path[:length] if node >= tree.constant]
        assert varying == sorted(varying)


def test_shared_words_are_shared() -> None:
    sot, red, car, apple = (Slot(token=index) for index in range(4))
    tree = build_tree([(sot, red, car, EOT), (sot, red, apple, EOT), (sot, red, car, EOT)])
    assert tree.nodes == 2 + 2 * 2
    assert tree.prompt_of.tolist() == [0, 1, 0]
    assert torch.equal(tree.lengths, torch.tensor([4, 4]))


@pytest.mark.parametrize("bad", [[], [()]])
def test_nothing_to_build_from(bad: list) -> None:
    with pytest.raises(ValueError, match="at least one"):
        build_tree(bad)
