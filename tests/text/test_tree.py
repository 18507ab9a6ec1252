"""The token tree, against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoop.text.prompt import Slot
from cocoop.text.tree import TokenTree, build_stages, build_tree, in_order, origins

EOT = Slot(token=9)
slots = st.one_of(
    st.integers(0, 3).map(lambda token: Slot(token=token)),
    st.tuples(st.integers(0, 1), st.integers(-1, 1)).map(lambda pair: Slot(ctx=pair[0], cls=pair[1])),
)


def path_to(tree: TokenTree, node: int) -> list[int]:
    """The nodes from SOT to `node`."""
    path = []
    while node >= 0:
        path.insert(0, node)
        node = int(tree.parent[node])
    return path


prompts = st.lists(st.lists(slots, max_size=5).map(lambda body: (*body, EOT)), min_size=1, max_size=8)


@given(prompts)
def test_paths_spell_the_prompts(given_prompts: list[tuple[Slot, ...]]) -> None:
    tree = build_tree(given_prompts)
    for prompt, row in zip(given_prompts, tree.prompt_of.tolist(), strict=True):
        path = path_to(tree, int(tree.leaves[row]))
        spelt = [Slot(int(tree.token[n]), int(tree.ctx[n]), int(tree.cls[n])) for n in path]
        assert tuple(spelt) == prompt
        assert tree.depth[path].tolist() == list(range(len(prompt)))


@given(prompts)
def test_one_node_for_every_distinct_beginning(given_prompts: list[tuple[Slot, ...]]) -> None:
    beginnings = {prompt[: end + 1] for prompt in given_prompts for end in range(len(prompt))}
    tree = build_tree(given_prompts)
    assert tree.nodes == len(beginnings)
    assert len(tree.leaves) == len(set(given_prompts))
    constant = sum(all(slot.ctx < 0 for slot in beginning) for beginning in beginnings)
    assert tree.constant == constant
    assert tree.varying == tree.nodes - constant


@given(prompts)
def test_parents_precede_children(given_prompts: list[tuple[Slot, ...]]) -> None:
    tree = build_tree(given_prompts)
    assert all(parent < node for node, parent in enumerate(tree.parent.tolist()))
    for leaf in tree.leaves.tolist():
        states = [node < tree.constant for node in path_to(tree, leaf)]
        assert states == sorted(states, reverse=True)  # constant, then varying


@given(prompts, st.integers(1, 3))
def test_nodes_part_from_those_of_the_same_beginning(
    given_prompts: list[tuple[Slot, ...]], blocks: int
) -> None:
    first, second = build_stages(given_prompts, 4, blocks)
    assert [*first.blocks, *second.blocks] == [0, 1, 2, 3]
    assert len(first.blocks) == blocks
    for node, origin in enumerate(origins(second.tree, first.tree).tolist()):
        paths = (path_to(second.tree, node), path_to(first.tree, origin))
        ours, theirs = (
            [(int(tree.token[n]), int(tree.ctx[n])) for n in path]
            for tree, path in zip((second.tree, first.tree), paths, strict=True)
        )
        assert ours == theirs
    constant = second.tree.constant
    assert origins(second.tree, first.tree)[:constant].tolist() == list(range(first.tree.constant))


def test_classes_are_sorted_by_what_they_share() -> None:
    names = [Slot(token=2), Slot(token=1), Slot(token=2)]
    marked = [(Slot(ctx=0, cls=label), name, EOT) for label, name in enumerate(names)]
    assert in_order(marked) == [0, 1, 2]
    assert in_order(marked, shared_blocks=1) == [1, 0, 2]


def test_shared_words_are_shared() -> None:
    sot, red, car, apple = (Slot(token=index) for index in range(4))
    tree = build_tree([(sot, red, car, EOT), (sot, red, apple, EOT), (sot, red, car, EOT)])
    assert tree.nodes == 2 + 2 * 2
    assert tree.prompt_of.tolist() == [0, 1, 0]
    assert tree.depth[tree.leaves].tolist() == [3, 3]


@pytest.mark.parametrize("bad", [[], [()]])
def test_nothing_to_build_from(bad: list) -> None:
    with pytest.raises(ValueError, match="at least one"):
        build_tree(bad)
