"""What the precision of the frozen towers costs: logits and gradients against fp64."""

import json
import time
from typing import Annotated, Any, get_args

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import machine, versions
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.backbones.device import Precision, choose_device, synchronize
from cocoop.backbones.features import ImageEncoder
from cocoop.data import Dataset, Item, open_dataset
from cocoop.data.splits import select, subset_labels
from cocoop.methods import build
from cocoop.methods.cocoop import Config
from cocoop.training.classifier import Classifier


def bench_precision(dataset: str, backbone: str, device: str, images: int) -> dict[str, Any]:
    """Compare untrained CoCoOp on the base classes of a dataset, images and texts, in every precision.

    Errors are of the logits (largest, mean) and of the gradient of the cross-entropy by all learned
    parameters (norm of the error over the norm), against the same model in fp64 on the CPU.
    """
    data = open_dataset(dataset)
    labels = subset_labels((item.label for item in data.items("train")), "base")
    items = select(data.items("test"), labels)
    items = items[:: max(1, len(items) // images)][:images]
    names = [data.class_names[label] for label in labels]
    exact_clip = load_backbone(backbone, "cpu", "fp32")
    exact_clip.model.double()
    exact, exact_gradient, _ = _step(exact_clip, data, items, names)
    result: dict[str, Any] = {
        "what": f"{len(items)} images and {len(names)} classes of {dataset}, {backbone}, against fp64"
    }
    where = choose_device(device)
    for precision in get_args(Precision):
        if precision == "tf32" and where.type != "cuda":
            continue
        clip = load_backbone(backbone, device, precision)
        _step(clip, data, items, names)
        logits, gradient, seconds = _step(clip, data, items, names)
        result[precision] = {
            "max_logit_error": float((logits - exact).abs().max()),
            "mean_logit_error": float((logits - exact).abs().mean()),
            "relative_gradient_error": float((gradient - exact_gradient).norm() / exact_gradient.norm()),
            "same_prediction": float((logits.argmax(1) == exact.argmax(1)).double().mean()),
            "text_step_s": seconds,
        }
    return result | {"device": str(where), "machine": machine(), "versions": versions()}


def _step(
    clip: Backbone, data: Dataset, items: tuple[Item, ...], names: list[str]
) -> tuple[Tensor, Tensor, float]:
    """Return logits and the flat gradient in fp64, and the wall time of the text side."""
    dtype = clip.token_embedding.dtype
    zimg = ImageEncoder(clip).test(data.root, items).to(clip.device, dtype)
    method: Any = build("cocoop", Config(), clip, template=data.template, n_classes=len(names), seed=1)
    method.to(dtype)
    classifier = Classifier(clip, method, names)
    labels = torch.tensor([item.label for item in items], device=clip.device)
    classifier(zimg)  # what is computed once a list of names is no part of a step
    synchronize()
    start = time.perf_counter()
    logits = classifier(zimg)
    F.cross_entropy(logits, labels).backward()
    gradient = torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])
    return logits.detach().double().cpu(), gradient.double().cpu(), time.perf_counter() - start


def main(
    dataset: Annotated[str, typer.Option(help="Registered name.")] = "emoji/food",
    backbone: Annotated[str, typer.Option(help="See `cocoop list backbones`.")] = "tiny-clip",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    images: Annotated[int, typer.Option(min=1, help="Test images.")] = 16,
) -> None:
    """Print the errors of each precision as JSON."""
    print(json.dumps(bench_precision(dataset, backbone, device, images), indent=2))


if __name__ == "__main__":
    typer.run(main)
