"""What `--dry-run` prints: every setting resolved, and in words what the cells will cost."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from cocoop.backbones.clip import Backbone
from cocoop.data.views import FLIP, SCALE
from cocoop.experiments.cell import Cell
from cocoop.experiments.cost import count_work
from cocoop.experiments.protocols import Settings
from cocoop.experiments.store import Store
from cocoop.methods import build
from cocoop.methods._hooks import WithLoss
from cocoop.methods._settings import MethodChoice, all_presets

OPTIMIZERS = {
    "sgd": "SGD, no dampening, no Nesterov",
    "adam": "Adam, weight decay added to the gradient",
    "adamw": "AdamW, weight decay apart from the gradient",
}


def print_few_shots(settings: Settings, console: Console) -> None:
    """Say where classes have fewer images than the shots asked for."""
    few = [
        f"{name} ({summary.fewest})"
        for name, summary in settings.summaries.items()
        if 0 < summary.fewest < settings.shots
    ]
    if few:
        console.print(
            f"fewer than {settings.shots} training images in some classes, all of theirs are used: "
            f"{', '.join(few)}",
            highlight=False,
        )


def print_plan(
    settings: Settings,
    cells: Sequence[Cell],
    store: Store,
    clip: Backbone,
    root: str | Path | None,
    console: Console,
) -> None:
    """Say what would be run, with every setting resolved and the work counted."""
    missing = [cell for cell in cells if not store.has(cell)]
    console.print(f"{len(cells)} cells, {len(missing)} to run, into {store.folder}", soft_wrap=True)
    sections = {"all methods": common(clip, settings.seeds, settings.shots)}
    sections |= {choice.label: resolved(choice, clip) for choice in settings.methods}
    for title, values in sections.items():
        console.print(Text(f"\n{title}", style="bold"))
        for name, value in values.items():
            console.print(Text(f"  {name:14} {value}"), soft_wrap=True)
    if missing:
        console.print("")
        for line in _work(missing, store, clip, root):
            console.print(line, soft_wrap=True, highlight=False)


def _work(cells: Sequence[Cell], store: Store, clip: Backbone, root: str | Path | None) -> Iterator[str]:
    """Yield lines that say what the missing cells cost."""
    costs, encoding = count_work(cells, store, clip, root)
    for cost in costs:
        trained = f"{cost.trainings:,} trainings, {cost.steps:,} steps, {cost.trained:,} text sequences"
        trained += f", {cost.images:,} images through the image tower and back; " if cost.images else "; "
        yield f"{cost.label}: {trained if cost.trainings else ''}tests of {cost.tested:,} text sequences"
    yield (
        f"images: {encoding.views:,} views to encode, {encoding.bytes / 1e6:,.1f} MB in the cache, "
        "fewer where cached"
    )


def resolved(choice: MethodChoice, clip: Backbone) -> dict[str, str]:
    """Return every setting of a method by the name that --set takes, and what the code fixes."""
    values = {"preset": f"{choice.preset} ({all_presets()[choice.preset][1].source})"}
    values |= {name: _value(value) for name, value in dataclasses.asdict(choice.config).items()}
    if choice.facts.sees_test_images:
        values |= {"test images": f"adapts to {choice.facts.adaptation}, without labels"}
    if not choice.recipe:
        return values | {"training": "nothing is learned"}
    method = build(choice.method, choice.config, clip, template="{}", n_classes=1, seed=0)
    rates = []
    if choice.recipe.schedule == "epoch":
        rates = [choice.recipe.lr_at(epoch) for epoch in range(choice.recipe.epochs)]
    shown = rates if len(rates) <= 10 else [*rates[:2], rates[-1]]
    by = {"epoch": "constant warm-up, then cosine; a step an epoch", "step": "rising warm-up, then cosine"}
    size = choice.recipe.classes_per_step
    compared = "the training classes" if not size else f"{size} of the training classes, logits corrected"
    sizes = [f"{name} {tuple(value.shape)}" for name, value in method.state_dict().items()]
    return values | {
        **{name: _value(value) for name, value in dataclasses.asdict(choice.recipe).items()},
        "optimizer": OPTIMIZERS[choice.recipe.optimizer],
        "schedule": by[choice.recipe.schedule] if choice.recipe.learns else "no steps",
        "rates": ", ".join(f"{rate:.5g}" for rate in shown)
        + (" (first two, last)" if shown != rates else ""),
        "loss": "its own" if isinstance(method, WithLoss) else f"cross-entropy over {compared}",
        "learned": f"{sum(map(torch.numel, method.parameters())):,} numbers in fp32: {', '.join(sizes)}",
    }


def common(clip: Backbone, seeds: Sequence[int], shots: int) -> dict[str, str]:
    """Return the settings that all methods share."""
    pixels = clip.preprocess
    size = "x".join(map(str, dict.fromkeys(pixels.edges)))
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (pixels.mean, pixels.std))
    (low, high), kind = SCALE, pixels.interpolation
    edge = {"shortest": "shorter edge", "squash": "both edges"}[pixels.resize_mode]
    return {
        "backbone": f"{clip.name}, weights {clip.weights_digest[:12]}",
        "sizes": f"image {size}, embedding {clip.embed_dim}, text width {clip.width}, "
        f"context {clip.context_length}",
        "precision": f"backbone {clip.precision}, learned fp32",
        "device": str(clip.device),
        "logit_scale": f"{clip.logit_scale:.6g}",
        "seeds": ", ".join(map(str, seeds)),
        "shots": f"{shots} a class, drawn over all classes before they are cut",
        "train view": f"random crop, area {low:g} to {high:g}, to {size}, {kind}; flip {FLIP:g}",
        "test view": f"{edge} to {pixels.resize or size}, {kind}; centre crop",
        "normalised": f"mean {mean}, std {std}",
        "tested": "after the last step, never selected on test images",
    }


def duration(seconds: float) -> str:
    """Return a time in words, as precise as an estimate is."""
    for unit, size in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
