"""The tables of docs/performance.md for a GPU: the text engine beside the reference path, in every precision.

    python -m benchmarks.gpu --out benchmarks/gpu.json

Takes about seven minutes on an H100. Weights are random: speed does not depend on their values. The reference
is the released computation (padded prompts, image by image) in the same precision, with weights of 16 bits
where the precision has them. Beyond --reference-limit prompts it is run on all classes of one image and
multiplied by the images, marked with ~; it loops over them, so that is exact.
`--device cpu --backbone toy --classes 10 --batches 1 --precisions fp32` tries the script without a GPU.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import machine, versions
from benchmarks.text import PROMPT, class_names, count_work
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.backbones.device import DTYPES, synchronize
from cocoop.text import TextEncoder, replay
from cocoop.text.reference import ReferenceEncoder
from cocoop.text.tower import TextTower
from cocoop.text.tree import build_tree
from cocoop.utils.files import write_json

Encode = Callable[[Tensor], Tensor]
Row = dict[str, Any]
SHOTS, TEST_IMAGES, CLASSES = 16_000, 50_000, 1000  # of ImageNet
COLUMNS = (
    "precision", "classes", "batch", "step, ms", "kernel by kernel", "reference", "ratio", "evaluation, ms",
    "reference", "ratio", "of peak", "memory, MiB", "reference",
)  # fmt: skip


def main(
    classes: Annotated[str, typer.Option(help="Numbers of classes.")] = "10,50,100,500,1000",
    batches: Annotated[str, typer.Option(help="Batch sizes.")] = "1,4,32",
    precisions: Annotated[str, typer.Option(help="Of both sides.")] = "fp32,tf32,fp16,bf16",
    backbone: Annotated[str, typer.Option(help="Its text tower is measured.")] = "ViT-B-16-quickgelu/random",
    device: Annotated[str, typer.Option(help="Where.")] = "cuda",
    reference_limit: Annotated[int, typer.Option(help="Most prompts the reference runs on.")] = 500,
    seconds: Annotated[float, typer.Option(help="Of measuring for each time.")] = 0.3,
    out: Annotated[Path | None, typer.Option(help="Where to write the results as JSON.")] = None,
) -> None:
    """Measure, print the tables in Markdown, and write them."""
    result: Row = {"machine": machine(), "versions": versions(), "backbone": backbone, "rows": []}
    print("| " + " | ".join(COLUMNS) + " |\n| --- |" + " ---: |" * (len(COLUMNS) - 1))
    for precision in precisions.split(","):
        clip = load_backbone(backbone, device, precision)
        peak = _peak_tflops(clip, seconds)
        result.setdefault("peak_tflops", {})[precision] = peak
        for count in map(int, classes.split(",")):
            for batch in map(int, batches.split(",")):
                row = {"precision": precision} | _measure(clip, count, batch, reference_limit, seconds)
                row["peak_share"] = (
                    row["gflop"] * 2 / (row["step_ms"] * peak)
                )  # forward, and back to the inputs
                result["rows"].append(row)
                print(_line(row), flush=True)
                if out:
                    write_json(out, result)
    print(f"\n{result['machine']}; {json.dumps(result['versions'])}; peak TFLOP/s {result['peak_tflops']}")
    _print_imagenet(result["rows"])


def _measure(clip: Backbone, count: int, batch: int, limit: int, seconds: float) -> Row:
    names = class_names(count)
    tree, tower = build_tree(PROMPT.slots(clip.tokenize, names)), TextTower(clip.text)
    row: Row = {"classes": count, "batch": batch}
    row["gflop"] = batch * count_work(tree, tower, count, clip.context_length)["engine_gflop"]
    encoder, job = TextEncoder(clip, [PROMPT], names), _Job(clip, batch)
    small, replay.SMALL = replay.SMALL, 0
    row["eager_step_ms"], row["memory_mb"] = _timed(lambda: job.step(encoder), seconds)
    row["eager_eval_ms"], _ = _timed(lambda: job.forward(encoder), seconds)
    replay.SMALL = small
    row["step_ms"], _ = _timed(lambda: job.step(encoder), seconds)
    row["eval_ms"], _ = _timed(lambda: job.forward(encoder), seconds)
    images = batch if count * batch <= limit else 1
    reference, job = _Reference(clip, names), _Job(clip, images)
    step, memory = _timed(lambda: job.step(reference), seconds)
    test, _ = _timed(lambda: job.forward(reference), seconds)
    scale = row["scale"] = batch // images
    row |= {"reference_step_ms": scale * step, "reference_eval_ms": scale * test}
    row["reference_memory_mb"] = scale * memory
    row["step_ratio"] = row["reference_step_ms"] / row["step_ms"]
    row["eval_ratio"] = row["reference_eval_ms"] / row["eval_ms"]
    return row


class _Job:
    """Context vectors of some images, and the step and the evaluation that need their text features."""

    def __init__(self, clip: Backbone, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        words = clip.embed_words("a photo of a")
        noise = torch.randn(batch, 1, *words.shape, generator=generator)
        self._contexts = words + 0.1 * words.std() * noise.to(clip.device)
        images = torch.randn(batch, clip.embed_dim, generator=generator)
        self._images = F.normalize(images, dim=-1).to(clip.device)
        self._labels = torch.zeros(batch, dtype=torch.long, device=clip.device)

    def forward(self, encode: Encode) -> Tensor:
        with torch.no_grad():
            return self._logits(encode, self._contexts)

    def step(self, encode: Encode) -> None:
        logits = self._logits(encode, self._contexts.clone().requires_grad_())
        F.cross_entropy(logits, self._labels).backward()

    def _logits(self, encode: Encode, contexts: Tensor) -> Tensor:
        return 100 * torch.einsum("bd,bcd->bc", self._images, encode(contexts).float())


class _Reference:
    """The released computation; its weights have 16 bits where the precision does, as released."""

    def __init__(self, clip: Backbone, names: Sequence[str]) -> None:
        self._dtype = DTYPES.get(clip.precision, torch.float32)
        rounded = load_backbone(clip.name, str(clip.device), clip.precision)
        rounded.model.to(self._dtype)
        self._encode = ReferenceEncoder(rounded, PROMPT, names)

    def __call__(self, contexts: Tensor) -> Tensor:
        return self._encode(contexts.to(self._dtype))


def _timed(job: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Return the median time of three or more calls in ms, after three more, and their peak memory in MiB."""
    cuda = torch.cuda.is_initialized()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated() if cuda else 0
    for _ in range(3):
        job()
    synchronize()
    peak = (torch.cuda.max_memory_allocated() - held) / (1 << 20) if cuda else 0.0
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        start = time.perf_counter()
        job()
        synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times), peak


def _peak_tflops(clip: Backbone, seconds: float) -> float:
    """Rate of a large matrix product in the precision of the backbone."""
    size = 8192 if clip.device.type == "cuda" else 512
    a, b = (torch.randn(size, size, device=clip.device, dtype=DTYPES.get(clip.precision)) for _ in range(2))
    return 2e-9 * size**3 / _timed(lambda: a @ b, seconds)[0]


def _line(row: Row) -> str:
    about = "~" if row["scale"] > 1 else ""
    times = [row[key] for key in ("step_ms", "eager_step_ms", "eval_ms")]
    step, eager, test = (f"{value:.2f}" for value in times)
    theirs = [f"{about}{row[key]:.1f}" for key in ("reference_step_ms", "reference_eval_ms")]
    ratios = [f"{row[key]:.1f}" for key in ("step_ratio", "eval_ratio")]
    memory = [f"{row['memory_mb']:.0f}", f"{about}{row['reference_memory_mb']:.0f}"]
    cells = [
        *(row["precision"], row["classes"], row["batch"], step, eager, theirs[0], ratios[0]),
        *(test, theirs[1], ratios[1], f"{row['peak_share']:.0%}", *memory),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _print_imagenet(rows: Sequence[Row]) -> None:
    """Say what the text side of CoCoOp on ImageNet takes, extrapolated from its steps and evaluations."""
    rows = [row for row in rows if row["classes"] == CLASSES]
    for one in (row for row in rows if row["batch"] == 1):
        many = max(
            (row for row in rows if row["precision"] == one["precision"]), key=lambda row: row["batch"]
        )
        epoch = [1e-3 * SHOTS * one[key] for key in ("step_ms", "reference_step_ms")]
        test = [1e-3 * TEST_IMAGES / many["batch"] * many[key] for key in ("eval_ms", "reference_eval_ms")]
        words = f"ImageNet, {one['precision']}: an epoch {epoch[0]:.0f} s (reference {epoch[1]:.0f} s)"
        print(f"{words}, 50,000 test images {test[0]:.0f} s (reference {test[1]:.0f} s)")


if __name__ == "__main__":
    typer.run(main)
