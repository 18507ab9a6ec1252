"""Plain references of the methods that learn a classifier on the features."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cocoop import Backbone
from tests.methods.banks import bank

NAMES = ["red apple", "green tea", "dog", "dog house"]
TEMPLATE = "a type of pet, a photo of a {}."
LABELS = torch.tensor([0, 3, 1, 2, 3])
SCALE = 100.0

Terms = dict[str, Tensor]


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


def words(clip: Backbone, template: str = TEMPLATE) -> Tensor:
    """Raw text features of hand-written prompts, by open_clip."""
    rows = [clip.tokenize(template.replace("{}", name)) for name in NAMES]
    padded = [row + [0] * (clip.context_length - len(row)) for row in rows]
    return clip.model.encode_text(torch.tensor(padded)).detach()


def with_loss(logits: Tensor) -> tuple[Tensor, Terms]:
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


def of_linear_probe(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    return with_loss(fimg @ method.weight.T + method.bias)


def of_zs_lp(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    return with_loss(SCALE * unit(fimg) @ unit(method.prototypes).T)


def multipliers(method: Any, clip: Backbone) -> list[Tensor]:
    """Of every class the mean zero-shot probability of its own images' views."""
    features, start = bank(clip, method, NAMES), unit(words(clip))
    means = []
    for name in range(len(NAMES)):
        of_class = features.fimg[:, features.labels == name].flatten(0, 1)
        means.append((SCALE * unit(of_class) @ start.T).softmax(1)[:, name].mean())
    return means


def of_clap(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    prototypes, start = method.probe.prototypes, words(clip)
    logits, terms = with_loss(SCALE * unit(fimg) @ unit(prototypes).T)
    each = [
        weight * ((prototype - text) ** 2).sum()
        for weight, prototype, text in zip(multipliers(method, clip), prototypes, start, strict=True)
    ]
    return logits, terms | {"constraint": cfg.strength * sum(each) / len(NAMES)}


def of_lp_plus_plus(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    text = unit(words(clip))
    columns = [
        unit(fimg) @ (method.linear.weight[name] + method.alpha[name] * text[name]) + method.linear.bias[name]
        for name in range(len(NAMES))
    ]
    return with_loss(torch.stack(columns, 1))


def of_cross_modal(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    return with_loss(SCALE * unit(fimg) @ method.head.T)


def of_clip_adapter(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    rows = []
    for f in fimg:
        inner = (method.down.weight @ f).clamp(min=0)
        rows.append(0.2 * (method.up.weight @ inner).clamp(min=0) + 0.8 * f)
    return with_loss(SCALE * unit(torch.stack(rows)) @ unit(words(clip)).T)


HEADS = {
    "linear-probe": of_linear_probe,
    "zs-lp": of_zs_lp,
    "clap": of_clap,
    "lp-plus-plus": of_lp_plus_plus,
    "cross-modal": of_cross_modal,
    "clip-adapter": of_clip_adapter,
}
