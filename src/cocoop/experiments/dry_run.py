"""What `--dry-run` prints: every setting resolved, and in words what the cells will cost."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from cocoop.backbones.clip import Backbone
from cocoop.data.transforms import FLIP, SCALE
from cocoop.experiments.cost import Estimate
from cocoop.methods import build
from cocoop.methods._settings import MethodChoice, presets


def resolved(choice: MethodChoice, clip: Backbone) -> dict[str, str]:
    """Return every setting of a method by the name that --set takes, and what the code fixes."""
    found = {"preset": f"{choice.preset} ({presets()[choice.preset][1].source})"}
    found |= {name: _value(value) for name, value in dataclasses.asdict(choice.config).items()}
    if not choice.recipe:
        return found | {"training": "nothing is learned"}
    method = build(choice.method, choice.config, clip, template="{}", n_classes=1, seed=0)
    rates = [choice.recipe.lr_at(epoch) for epoch in range(choice.recipe.epochs)]
    shown = rates if len(rates) <= 10 else [*rates[:2], rates[-1]]
    sizes = [f"{name} {tuple(value.shape)}" for name, value in method.state_dict().items()]
    return found | {
        **{name: _value(value) for name, value in dataclasses.asdict(choice.recipe).items()},
        "optimizer": "SGD, no dampening, no Nesterov",
        "schedule": "constant warm-up, then cosine; a step an epoch",
        "rates": ", ".join(f"{rate:.5g}" for rate in shown)
        + (" (first two, last)" if shown != rates else ""),
        "loss": "cross-entropy over the training classes",
        "learned": f"{sum(map(torch.numel, method.parameters())):,} numbers in fp32: {', '.join(sizes)}",
    }


def common(clip: Backbone, seeds: Sequence[int], shots: int) -> dict[str, str]:
    """Return the settings that all methods share."""
    pixels = clip.preprocess
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (pixels.mean, pixels.std))
    (low, high), kind = SCALE, pixels.interpolation
    edge = {"shortest": "shorter edge", "squash": "both edges"}[pixels.resize_mode]
    return {
        "backbone": f"{clip.name}, weights {clip.weights_digest[:12]}",
        "sizes": f"image {pixels.size}, embedding {clip.embed_dim}, text width {clip.width}, "
        f"context {clip.context_length}",
        "precision": f"backbone {clip.precision}, learned fp32",
        "device": str(clip.device),
        "logit_scale": f"{clip.logit_scale:.6g}",
        "seeds": ", ".join(map(str, seeds)),
        "shots": f"{shots} a class, drawn over all classes before they are cut",
        "train view": f"random crop, area {low:g} to {high:g}, to {pixels.size}, {kind}; flip {FLIP:g}",
        "test view": f"{edge} to {pixels.size}, {kind}; centre crop",
        "normalised": f"mean {mean}, std {std}",
        "tested": "after the last step, never selected on test images",
    }


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Return about how long that is, in words."""
    if seconds < 1:
        return "under a second"
    if seconds < 60:
        return f"about {seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes} min" if hours < 48 else f"about {hours // 24} days {hours % 24} h"


def in_words(estimate: Estimate) -> Iterator[str]:
    """Yield lines that say what the missing cells cost."""
    for cost in estimate.costs:
        trained = f"{cost.trainings:,} trainings, {cost.steps:,} steps, {cost.trained:,} text sequences; "
        yield (
            f"{cost.label}: {trained if cost.trainings else ''}tests of {cost.tested:,} text sequences; "
            f"{duration(cost.seconds)}"
        )
    images = f"images: {estimate.views:,} views to encode, fewer where cached"
    yield f"{images}; {duration(estimate.view_seconds)}"
    yield (
        f"in all {duration(estimate.seconds)} on this machine, by a step of each method timed just now; "
        "reading images comes on top"
    )
