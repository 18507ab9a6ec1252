"""Everything that meets in an operation lies on one device: what a GPU would refuse shows without one.

The model is put on the meta device, which computes shapes alone, forward and backward.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.text import PROMPT
from cocoop import Backbone, load_backbone
from cocoop.methods import METHODS
from cocoop.text.reference import ReferenceEncoder
from cocoop.training.classifier import Classifier
from cocoop.training.step import losses
from tests.described import described
from tests.methods.banks import states

NAMES = ["red apple", "red car", "dog", "dog house", "xylophone", "a"]
MOVES = {"aten::_to_copy", "aten::copy_", "aten::lift_fresh"}


class OneDevice(TorchDispatchMode):
    """Fails on operations over several devices; numbers (tensors without dimensions) are free."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}
        assert len(devices) <= 1 or func.name().partition(".")[0] in MOVES, f"{func.name()}: {devices}"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def clip() -> Backbone:
    return load_backbone("toy", "cpu", "fp32")


def test_the_check_notices_a_second_device() -> None:
    here, there = torch.ones(2), torch.ones(2, device="meta")
    with OneDevice():
        with pytest.raises(AssertionError, match="aten::index_add"):
            there.index_add(0, torch.zeros(2, dtype=torch.long), there)
        assert (here.to("meta") + there).device.type == "meta"


@pytest.mark.parametrize("budget", [10**9, 300_000], ids=["whole", "in chunks"])
@pytest.mark.parametrize("name", METHODS.names())
def test_logits_and_gradients_of_every_method(name: str, budget: int, clip: Backbone) -> None:
    kind = METHODS.get(name)
    config = described(kind.config_type(), NAMES)
    method = kind(config, clip, template="a photo of a {}.", n_classes=len(NAMES), seed=1)
    images, labels = states(method, clip, 3), torch.empty(3, dtype=torch.long, device="meta")
    method.to("meta")
    with OneDevice():
        classifier = Classifier(clip.to("meta"), method, NAMES, budget)
        logits = classifier(images)
        assert (logits.shape, logits.device.type) == ((3, len(NAMES)), "meta")
        if logits.requires_grad:
            torch.stack(list(losses(classifier, images, labels).values())).sum().backward()
            begun = (value for value in method.parameters() if value.requires_grad and value.numel())
            assert all(value.grad is not None for value in begun)  # others begin in a later stage


def test_the_reference_path(clip: Backbone) -> None:
    contexts = torch.empty(2, 1, 4, clip.width, device="meta", requires_grad=True)
    with OneDevice():
        ReferenceEncoder(clip.to("meta"), PROMPT, NAMES)(contexts).sum().backward()
    assert contexts.grad is not None
