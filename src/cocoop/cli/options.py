"""What several commands share: types of options and the reading of their values."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocoop.errors import UsageError
from cocoop.utils.display import terminal

if TYPE_CHECKING:
    from cocoop.estimator.inputs import Classes as NamesOrPhrases

Backbone = Annotated[str, typer.Option(help="See `cocoop list backbones`.")]
Budget = Annotated[
    str | None,
    typer.Option(
        "--memory-budget", help="Memory for the text encoder, e.g. 512MB; half of what is free if not given."
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes", help='Names to choose from, "a,b" or "a=phrase|phrase,b"; the model\'s if not given.'
    ),
]
ClassesFile = Annotated[Path | None, typer.Option("--classes-file", help="The same, one a line.")]
Data = Annotated[
    str, typer.Argument(metavar="DATA", help="A folder per class, a table, hub:NAME, or a name.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Encoding = Annotated[str | None, typer.Option("--encoding", help="Of a text table, e.g. latin-1.")]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", help="The column of the classes, of a table or the Hub.")
]
LabelsFrom = Annotated[
    str | None,
    typer.Option("--labels-from", help="Of a folder: folders, names (of the files), or a table in it."),
]
LabelSep = Annotated[
    str | None,
    typer.Option(
        "--label-sep", help="Between the classes of an image, where one may have several, e.g. '|'."
    ),
]
Labels = Annotated[
    str | None, typer.Option("--labels", help="one or several: classes an image, where both may be meant.")
]
Model = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="A folder that `cocoop fit` wrote, or hf:OWNER/NAME of the Hub."),
]
Names = Annotated[
    Path | None,
    typer.Option("--names", help="JSON, CSV or a list: what the data call a class, and its name; or auto."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
PathColumn = Annotated[
    str | None, typer.Option("--path-column", help="The column of the images, of a table or the Hub.")
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
Sep = Annotated[str | None, typer.Option("--sep", help="What separates the columns of a text table.")]
SplitColumn = Annotated[str | None, typer.Option("--split-column", help="The column of the splits.")]
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


def class_names(classes: str | None, file: Path | None) -> "NamesOrPhrases | None":
    """Return the names that `--classes` or `--classes-file` gives; None where neither is there."""
    from cocoop.estimator.inputs import read_classes, with_phrases

    if classes and file:
        raise UsageError("give --classes or --classes-file, not both")
    words = [word.strip() for word in (classes or "").split(",") if word.strip()]
    if classes is not None and not words:
        raise UsageError('--classes has no names; write e.g. --classes "apple,violin"')
    words = words or (list(read_classes(file)) if file else [])
    return with_phrases(words) if words else None
