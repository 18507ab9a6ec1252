"""The text side of one training step and one evaluation: token tree against padded prompts.

    python -m benchmarks.text --classes 10,50,100 --batches 1,4 --out benchmarks/text_engine.json

Where the prompts exceed --reference-limit, the reference would take minutes and more memory than small
machines have: it is run on a part of them, and its time and memory, marked with ~, are scaled.
"""

import gc
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from torch import Tensor

from benchmarks.measure import Job, alternate, compare, machine, peak_memory_mb, versions
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.backbones.device import AUTO
from cocoop.errors import UsageError
from cocoop.text import TextEncoder
from cocoop.text.prompt import Prompt
from cocoop.text.reference import ReferenceEncoder
from cocoop.text.tower import TextTower
from cocoop.text.tree import TokenTree, build_tree
from cocoop.utils.files import write_json

PROMPT = Prompt("a photo of a {}.", 4)
PART = 20  # classes that the reference is run on where all of them would take too long, or too much memory

Reference = Literal["full", "part", "none"]


def bench_text(
    classes: int,
    batch: int,
    backbone: str,
    repeats: int = 5,
    memory_budget: int | None = None,
    reference: Reference = "full",
    device: str = AUTO,
) -> dict[str, Any]:
    """Measure CoCoOp's text side: `batch` images, each with its own context, against `classes` names.

    Args:
        classes: how many of ImageNet's class names.
        batch: images, each with its own context vectors.
        backbone: a name for `load_backbone`; speed does not depend on the weights' values.
        repeats: measured runs of each side, in turns.
        memory_budget: bytes for the engine; None for what the machine allows.
        reference: "full" runs the reference path on the same prompts; "part" runs it on one image and the
            first PART classes and scales its time and memory to all prompts, in which they are linear;
            "none" leaves ratios out.
        device: "cpu", "cuda" or "mps", for both sides; "auto" takes an accelerator where there is one.

    Raises:
        UsageError: more classes than there are names, or none; no such device here.
    """
    names = class_names(classes)
    part, images = (names, batch) if reference == "full" else (names[:PART], 1)
    scale = classes * batch / (len(part) * images)
    clip = load_backbone(backbone, device, "fp32")
    tree = build_tree(PROMPT.slots(clip.tokenize, names))
    counted = count_work(tree, TextTower(clip.text), classes, clip.context_length)
    jobs = {"engine": _Side("engine", clip, names, batch, memory_budget)}
    if reference != "none":
        jobs = {"reference": _Side("reference", clip, part, images, None)} | jobs
    result: dict[str, Any] = {
        "what": f"text side of CoCoOp, {classes} classes, batch {batch}, {backbone}, fp32",
        "classes": classes,
        "batch": batch,
        "backbone": backbone,
        "device": str(clip.device),
        "memory_budget": memory_budget,
        "reference": {"full": "measured", "part": f"{len(part)} prompts, scaled", "none": "none"}[reference],
        "work": counted,
    }
    result |= _differences(jobs, same=reference == "full")
    gc.collect()
    for what, grad in (("train", True), ("eval", False)):
        seconds = alternate({side: job.step if grad else job.forward for side, job in jobs.items()}, repeats)
        seconds["reference"] = [scale * value for value in seconds.get("reference", [math.nan])]
        result[what] = compare(seconds, counted["engine_gflop"] / counted["reference_gflop"])
    sides = list(jobs)
    del jobs, clip
    gc.collect()
    given = {"reference": (part, images), "engine": (names, batch)}
    memory = {s: peak_memory_mb(_prepare, s, *given[s], backbone, device, memory_budget) for s in sides}
    if reference != "none":
        memory["reference"] *= scale
        result["memory"] = {"ratio": memory["reference"] / memory["engine"]}
    result["memory"] = {f"{s}_mb": value for s, value in memory.items()} | result.get("memory", {})
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
        noise = torch.stack([torch.randn(1, *words.shape, generator=generator) for _ in range(batch)])
        self.contexts = words + 0.1 * words.std() * noise.to(clip.device)
        generator.manual_seed(1)
        image = torch.stack([torch.randn(clip.embed_dim, generator=generator) for _ in range(batch)])
        self.image = (image / image.norm(dim=-1, keepdim=True)).to(clip.device)

    def logits(self, contexts: Tensor) -> Tensor:
        return 100 * torch.einsum("bd,bcd->bc", self.image, self._encode(contexts))

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.logits(self.contexts)

    def step(self) -> Tensor:
        """Forward and backward to the context vectors; return their gradient."""
        contexts = self.contexts.clone().requires_grad_()
        labels = torch.zeros(len(contexts), dtype=torch.long, device=contexts.device)
        torch.nn.functional.cross_entropy(self.logits(contexts), labels).backward()
        assert contexts.grad is not None
        return contexts.grad


def _prepare(
    side: str, names: Sequence[str], batch: int, backbone: str, device: str, budget: int | None
) -> Job:
    torch.set_num_threads(torch.get_num_threads())  # start the thread pool before memory is read
    return _Side(side, load_backbone(backbone, device, "fp32"), names, batch, budget).step


def _differences(jobs: Mapping[str, _Side], same: bool) -> dict[str, float]:
    """Compare logits, and gradients where both sides have the `same` prompts."""
    if "reference" not in jobs:
        return {}
    reference, engine = jobs["reference"], jobs["engine"]
    theirs = reference.forward()
    ours = engine.forward()[: len(theirs), : theirs.shape[1]]
    found = {"max_logit_diff": float((ours - theirs).abs().max())}
    if same:
        gradient = reference.step()
        found["max_grad_diff"] = float((engine.step() - gradient).abs().max())
        found["max_grad"] = float(gradient.abs().max())
    return found


def count_work(
    tree: TokenTree, tower: TextTower, classes: int, context_length: int
) -> dict[str, float | int]:
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


def main(
    classes: Annotated[str, typer.Option(help="Numbers of classes, separated by commas.")] = "10,50,100",
    batches: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1",
    backbones: Annotated[str, typer.Option(help="Names, separated by commas.")] = "ViT-B-16-quickgelu/random",
    repeats: Annotated[int, typer.Option(help="Measured runs of each side.")] = 5,
    reference_limit: Annotated[
        int, typer.Option(help="Most prompts the reference runs on in full; below 0 it is left out.")
    ] = 200,
    memory_budget: Annotated[int | None, typer.Option(help="Bytes, for the engine.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Where to write the results as JSON.")] = None,
) -> None:
    """Measure a grid and print its table in Markdown."""
    results = []
    print(
        "| text tower | classes | batch | step, s | reference, s | ratio | evaluation ratio | share of floor "
        "| memory, MB | reference, MB | logit difference |"
    )
    print("| --- |" + " ---: |" * 10)
    for backbone in backbones.split(","):
        for count in map(int, classes.split(",")):
            for batch in map(int, batches.split(",")):
                reference: Reference = "full" if count * batch <= reference_limit else "part"
                reference = "none" if reference_limit < 0 else reference
                result = bench_text(count, batch, backbone, repeats, memory_budget, reference, device)
                results.append(result)
                print(_row(result), flush=True)
                if out:
                    write_json(out, results)
    print(f"\n{results[0]['machine']}; {json.dumps(results[0]['versions'])}; medians of {repeats}, in turns")


def _row(result: dict[str, Any]) -> str:
    train, test, memory = result["train"], result["eval"], result["memory"]
    about = "" if result["reference"] == "measured" else "~"
    spread = f"{train['engine_s']:.3f} ({train['engine_min_s']:.3f} to {train['engine_max_s']:.3f})"
    cells = [
        result["backbone"].partition("/")[0].removesuffix("-quickgelu"),
        result["classes"],
        result["batch"],
        spread,
        f"{about}{train['reference_s']:.2f}",
        f"{about}{train['ratio']:.1f}",
        f"{about}{test['ratio']:.1f}",
        f"{about}{train['floor_share']:.2f} / {test['floor_share']:.2f}",
        f"{memory['engine_mb']:.0f}",
        f"{about}{memory.get('reference_mb', math.nan):.0f}",
        f"{result.get('max_logit_diff', math.nan):.1e}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    typer.run(main)
