"""The command `cocoop bench`."""

import json as json_
from enum import Enum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cocoop.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Measure speed and memory beside the reference path.")
out = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Repeats = Annotated[int, typer.Option(min=1, help="Measured runs of each side, in turns.")]


class ReferenceChoice(str, Enum):
    """How much of the reference path is run."""

    full = "full"
    part = "part"
    none = "none"


@app.command()
def text(
    classes: Annotated[int, typer.Option(help="How many of ImageNet's class names.")] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Images, each with its own context.")] = 1,
    backbone: Annotated[str, typer.Option(help="Its text tower is measured.")] = "ViT-B-16-quickgelu/random",
    repeats: Repeats = 5,
    memory_budget: Annotated[str | None, typer.Option(help="For the engine, e.g. 256MB.")] = None,
    reference: Annotated[
        ReferenceChoice, typer.Option(help="Run the reference path in full, on a part (then scaled), or not.")
    ] = ReferenceChoice.full,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Text side of one CoCoOp training step and evaluation: token tree against padded prompts."""
    from cocoop.bench.text import bench_text

    budget = parse_bytes(memory_budget)
    _show(bench_text(classes, batch, backbone, repeats, budget, reference.value, device), json)


@app.command()
def fit(
    dataset: Annotated[str, typer.Option(help="Registered name.")] = "emoji/food",
    backbone: Annotated[str, typer.Option(help="See `cocoop list backbones`.")] = "tiny-clip",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the shots.")] = 10,
    shots: Annotated[int, typer.Option(min=1, help="Training images a class.")] = 16,
    json: Json = False,
) -> None:
    """A whole fit of CoCoOp, images to accuracy: engine and batched features against the reference path."""
    from cocoop.bench.fit import bench_fit

    _show(bench_fit(dataset, backbone, epochs, shots), json)


@app.command()
def features(
    dataset: Annotated[str, typer.Option(help="Registered name.")] = "emoji/food",
    backbone: Annotated[str, typer.Option(help="See `cocoop list backbones`.")] = "tiny-clip",
    images: Annotated[int, typer.Option(min=1, help="Images to encode.")] = 64,
    repeats: Repeats = 3,
    json: Json = False,
) -> None:
    """Image features: batched and cached views against one image at a time."""
    from cocoop.bench.features import bench_features

    _show(bench_features(dataset, backbone, images, repeats), json)


@app.command()
def precision(
    dataset: Annotated[str, typer.Option(help="Registered name.")] = "emoji/food",
    backbone: Annotated[str, typer.Option(help="See `cocoop list backbones`.")] = "tiny-clip",
    device: Device = "auto",
    images: Annotated[int, typer.Option(min=1, help="Test images.")] = 16,
    json: Json = False,
) -> None:
    """Errors of each precision of the towers against fp64: logits and gradients."""
    from cocoop.bench.precision import bench_precision

    _show(bench_precision(dataset, backbone, device, images), json)


def parse_bytes(text: str | None) -> int | None:
    """Parse "512MB" or "1.5GB" (powers of 1000) or a bare number of bytes. Raises UsageError."""
    if text is None:
        return None
    units = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "b": 1}
    word = text.strip().lower()
    unit = next((name for name in units if word.endswith(name)), "")
    try:
        value = int(float(word.removesuffix(unit)) * units.get(unit, 1))
    except (ValueError, OverflowError):
        value = -1
    if value < 0:
        raise UsageError(f"{text!r} is not a size; write e.g. 512MB or 2GB")
    return value


def _show(result: dict[str, Any], json: bool) -> None:
    if json:
        typer.echo(json_.dumps(result, indent=2))
        return
    table = Table(title=result.pop("what"), title_justify="left", show_header=False)
    for name, value in _flat(result):
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    out.print(table)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name} ") if isinstance(value, dict) else [(prefix + name, value)]
    return rows
