"""What several commands share: types of options and the reading of their values."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cocoop.errors import UsageError
from cocoop.utils.display import terminal

Backbone = Annotated[str, typer.Option(help="See `cocoop list backbones`.")]
Budget = Annotated[
    str | None,
    typer.Option(
        "--memory-budget", help="Memory for the text encoder, e.g. 512MB; half of what is free if not given."
    ),
]
Classes = Annotated[
    str | None, typer.Option("--classes", help='Names to choose from, "a,b"; the model\'s if not given.')
]
ClassesFile = Annotated[Path | None, typer.Option("--classes-file", help="The same, one a line.")]
Data = Annotated[
    str, typer.Argument(metavar="DATA", help="A folder per class, a table, hub:NAME, or a name.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that `cocoop fit` wrote.")]
Names = Annotated[
    Path | None, typer.Option("--names", help="JSON or CSV: what the data call a class, and its name.")
]
Precision = Annotated[str, typer.Option(help="Of the frozen towers: auto, fp32, tf32, bf16 or fp16.")]
Testing = Annotated[
    str,
    typer.Option(
        "--testing",
        help="exact; screened: exact for the likeliest names; linear; auto: screened where that is quicker.",
    ),
]
Root = Annotated[
    Path | None,
    typer.Option("--root", envvar="COCOOP_DATA", help="The folder that holds the datasets' folders."),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="METHOD.FIELD=VALUE; repeatable.")]


@contextmanager
def loading() -> Iterator[None]:
    """Say on a terminal what goes on while torch and open_clip are imported, which takes seconds."""
    with terminal(stderr=True).status("loading torch and open_clip", spinner="line"):
        yield


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


def class_names(classes: str | None, file: Path | None) -> tuple[str, ...] | None:
    """Return the names that `--classes` or `--classes-file` gives; None where neither is there."""
    from cocoop.estimator.inputs import read_classes

    if classes and file:
        raise UsageError("give --classes or --classes-file, not both")
    words = [word.strip() for word in (classes or "").split(",") if word.strip()]
    if classes is not None and not words:
        raise UsageError('--classes has no names; write e.g. --classes "apple,violin"')
    return tuple(dict.fromkeys(words)) or (read_classes(file) if file else None)
