"""An encoder of some of the classes is the columns of the encoder of all."""

from collections.abc import Callable

import pytest
import torch

from cocoop import Backbone
from cocoop.text import TextEncoder, tree
from cocoop.text.prompt import Prompt
from tests.text.test_encoder import NAMES, features_and_gradient

PROMPTS = {
    "one": [Prompt("a photo of a {}.", 4)],
    "front": [Prompt("a photo of a {}.", 4, "front")],
    "deep": [Prompt("a photo of a {}.", 4, deeper=(2,))],
    "ensemble": [Prompt("a photo of a {}.", 4), Prompt("a bad photo of {}.", 4)],
}


@pytest.mark.parametrize("budget", [None, 300_000])
@pytest.mark.parametrize("prompts", PROMPTS)
def test_some_classes_in_any_order(
    prompts: str, budget: int | None, tower: Callable[[str], Backbone]
) -> None:
    backbone = tower("clip-gelu-deep")
    whole = TextEncoder(backbone, PROMPTS[prompts], NAMES, budget)
    depth = 1 + len(PROMPTS[prompts][0].deeper)
    generator = torch.Generator().manual_seed(0)
    contexts = torch.randn(2, 1, 4 * depth, backbone.width, dtype=torch.float64, generator=generator)
    for places in ([6, 0, 3], [2], [8, 7, 6, 5, 4, 3, 2, 1, 0]):
        some = whole.among(places)
        assert some.class_names == tuple(NAMES[place] for place in places)
        ours = features_and_gradient(some, contexts)
        theirs = features_and_gradient(lambda each, places=places: whole(each)[:, places], contexts)
        for mine, reference in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-12)
    assert whole.class_names == tuple(NAMES)


def test_samples_of_one_size_are_planned_once(
    tower: Callable[[str], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TextEncoder(tower("clip-quickgelu"), PROMPTS["one"], NAMES)
    contexts = torch.randn(1, 1, 4, whole._tower.width, dtype=torch.float64)
    whole.among([0, 1, 2])(contexts)
    built: list[int] = []
    build = tree.build_tree
    monkeypatch.setattr(tree, "build_tree", lambda prompts: built.append(len(prompts)) or build(prompts))
    whole.among([3, 4, 5])(contexts)
    assert built == [3]  # its own tree, and none for a plan
    whole.among([3, 4])(contexts)
    assert built == [3, 2, 2]
