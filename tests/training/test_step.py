"""Images in groups: the gradient of the whole batch, with nothing computed twice."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cocoop import Backbone, Classifier
from cocoop.methods import METHODS
from cocoop.methods.cocoop import Config as CoCoOpConfig
from cocoop.methods.cocoop import Model as CoCoOp
from cocoop.text import memory, pieces
from cocoop.training.candidates import Candidates, Shift
from cocoop.training.step import descend
from tests.training.test_candidates import NAMES, built, gradients, images, same

CONDITIONAL = [name for name in METHODS.names() if METHODS.get(name).facts.conditional]
LABELS = torch.tensor([4, 1, 4, 6, 0])
SOME, CHUNKS = 2_000_000, 200_000  # bytes for four images at a time, and for a part of the classes of one


@pytest.fixture
def double(tower: Callable[[str], Backbone], monkeypatch: pytest.MonkeyPatch) -> Backbone:
    monkeypatch.setattr(memory, "CHUNKS_IN_BUDGET", 1)
    return tower("clip-gelu-deep")


def within(budget: int, classifier: Classifier) -> Classifier:
    """The same within a memory budget."""
    return Classifier(classifier.backbone, classifier.method, NAMES, budget)


def descended(
    classifier: Classifier, backbone: Backbone, shift: Shift | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The terms and the gradients of a batch, of which a process has half."""
    method: Any = classifier.method
    if hasattr(method, "previous"):
        method.previous.zero_()
    terms = descend(Candidates(classifier, LABELS, shift), images(backbone, 5), LABELS, share=0.5)
    return terms, gradients(method)


@pytest.mark.parametrize(("budget", "groups"), [(SOME, [4, 1]), (CHUNKS, [1] * 5)])
@pytest.mark.parametrize("name", CONDITIONAL)
def test_groups_of_images_have_the_gradient_of_the_batch(
    name: str, budget: int, groups: list[int], double: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = built(name, double), within(budget, built(name, double))
    encoded: list[int] = []
    encode = parts.encode
    monkeypatch.setattr(parts, "encode", lambda contexts: encoded.append(len(contexts)) or encode(contexts))
    shift = None if name.startswith("dept") else Shift(0.7, 2)
    (terms, expected), (ours, mine) = descended(whole, double, shift), descended(parts, double, shift)
    assert encoded == groups
    same(ours, terms)
    same(mine, expected)


def test_nothing_is_computed_twice(double: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = within(SOME, built("cocoop", double))
    again: list[int] = []
    monkeypatch.setattr(pieces, "checkpoint", lambda run, x, **_: again.append(len(x)) or run(x))
    classifier(images(double, 5))
    assert again  # as a whole the batch does not fit
    again.clear()
    descended(classifier, double)
    assert not again


class Spread(CoCoOp):
    """A loss that no mean over images is."""

    def loss(self, out: Any, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"cross-entropy": F.cross_entropy(out.logits, labels), "spread": out.logits.var(0).sum()}


def test_a_loss_that_mixes_images_is_computed_of_the_whole_batch(double: Backbone) -> None:
    found = []
    for budget in (None, SOME):
        method = Spread(CoCoOpConfig(), double, template="", n_classes=len(NAMES), seed=0).double()
        found.append(descended(Classifier(double, method, NAMES, budget), double))  # type: ignore[arg-type]
    (terms, expected), (ours, mine) = found
    same(ours, terms)
    same(mine, expected)
