"""The text side of one training step and one evaluation: token tree against padded prompts."""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from torch import Tensor

from cocoop.backbone import Backbone, load_backbone
from cocoop.bench.measure import Job, alternate, compare, machine, peak_memory_mb, versions
from cocoop.errors import UsageError
from cocoop.prompts import Prompt
from cocoop.text import TextEncoder
from cocoop.text.reference import ReferenceEncoder
from cocoop.text.tower import TextTower
from cocoop.text.tree import TokenTree, build_tree

PROMPT = Prompt("a photo of a {}.", 4)
SIDES = ("reference", "engine")


def bench_text(
    classes: int,
    batch: int,
    backbone: str,
    repeats: int = 5,
    memory_budget: int | None = None,
    reference: bool = True,
) -> dict[str, Any]:
    """Measure CoCoOp's text side: `batch` images, each with its own context, against `classes` names.

    Args:
        classes: how many of ImageNet's class names.
        batch: images, each with its own context vectors.
        backbone: a name for `load_backbone`; speed does not depend on the weights' values.
        repeats: measured runs of each side, in turns.
        memory_budget: bytes for the engine; None for what the machine allows.
        reference: whether to run the reference path too; without it, ratios are left out.

    Raises:
        UsageError: more classes than there are names, or none.
    """
    names = class_names(classes)
    clip = load_backbone(backbone)
    tree = build_tree(PROMPT.slots(clip.tokenize, names))
    tower = TextTower(clip.model)
    counted = _work(tree, tower, classes, clip.context_length)
    jobs = {
        side: _Side(side, clip, names, batch, memory_budget)
        for side in SIDES
        if reference or side == "engine"
    }
    result: dict[str, Any] = {
        "what": f"text side of CoCoOp, {classes} classes, batch {batch}, {backbone}, fp32",
        "classes": classes,
        "batch": batch,
        "backbone": backbone,
        "memory_budget": memory_budget,
        "work": counted,
    }
    if reference:
        result |= _differences(jobs)
    gc.collect()
    for what, grad in (("train", True), ("eval", False)):
        seconds = alternate({side: job.step if grad else job.forward for side, job in jobs.items()}, repeats)
        seconds.setdefault("reference", [float("nan")])
        result[what] = compare(seconds, counted["engine_gflop"] / counted["reference_gflop"])
    del jobs, clip, tower
    gc.collect()
    memory = {
        side: peak_memory_mb(_prepare, side, names, batch, backbone, memory_budget)
        for side in SIDES
        if reference or side == "engine"
    }
    result["memory"] = {f"{side}_mb": value for side, value in memory.items()}
    if reference:
        result["memory"]["ratio"] = memory["reference"] / memory["engine"]
    return result | {"machine": machine(), "versions": versions()}


def class_names(count: int) -> Sequence[str]:
    """Return the first `count` ImageNet class names. Raises UsageError."""
    if not 1 <= count <= len(IMAGENET_CLASSNAMES):
        raise UsageError(f"classes must be between 1 and {len(IMAGENET_CLASSNAMES)}, not {count}")
    return list(IMAGENET_CLASSNAMES[:count])


class _Side:
    """One of the two paths with its inputs."""

    def __init__(
        self, side: str, clip: Backbone, names: Sequence[str], batch: int, budget: int | None
    ) -> None:
        engine = side == "engine"
        self._encode: Callable[[Tensor], Tensor] = (
            TextEncoder(clip, [PROMPT], names, budget) if engine else ReferenceEncoder(clip, PROMPT, names)
        )
        generator = torch.Generator().manual_seed(0)
        words = clip.embed_words("a photo of a")
        noise = torch.randn(batch, 1, *words.shape, generator=generator)
        self.contexts = words + 0.1 * words.std() * noise
        image = torch.randn(batch, clip.embed_dim, generator=generator)
        self.image = image / image.norm(dim=-1, keepdim=True)

    def logits(self, contexts: Tensor) -> Tensor:
        return 100 * torch.einsum("bd,bcd->bc", self.image, self._encode(contexts))

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.logits(self.contexts)

    def step(self) -> Tensor:
        """Forward and backward to the context vectors; return their gradient."""
        contexts = self.contexts.clone().requires_grad_()
        labels = torch.zeros(len(contexts), dtype=torch.long)
        torch.nn.functional.cross_entropy(self.logits(contexts), labels).backward()
        assert contexts.grad is not None
        return contexts.grad


def _prepare(side: str, names: Sequence[str], batch: int, backbone: str, budget: int | None) -> Job:
    torch.set_num_threads(torch.get_num_threads())  # start the thread pool before memory is read
    return _Side(side, load_backbone(backbone), names, batch, budget).step


def _differences(jobs: dict[str, _Side]) -> dict[str, float]:
    logits = [jobs[side].forward() for side in SIDES]
    gradients = [jobs[side].step() for side in SIDES]
    return {
        "max_logit_diff": float((logits[0] - logits[1]).abs().max()),
        "max_grad_diff": float((gradients[0] - gradients[1]).abs().max()),
        "max_grad": float(gradients[0].abs().max()),
    }


def _work(tree: TokenTree, tower: TextTower, classes: int, context_length: int) -> dict[str, float | int]:
    """Count tokens and floating-point operations of the matrix products of one forward pass.

    A backward pass to the inputs costs the same again on both sides; attention is left out, being
    below a few percent on both.
    """
    width, layers = tower.width, len(tower.blocks)
    block = 12 * width**2  # multiply-adds of one token: q, k, v, output, and the MLP's 4 + 4
    last = 2 * width**2 * tree.varying + 10 * width**2 * len(tree.leaves)
    engine = (layers - 1) * block * tree.varying + last + width * tower.embed_dim * len(tree.leaves)
    reference = layers * block * classes * context_length + width * tower.embed_dim * classes
    return {
        "reference_tokens": classes * context_length,
        "engine_tokens": tree.varying,
        "reference_gflop": 2e-9 * reference,
        "engine_gflop": 2e-9 * engine,
    }
