"""The command `cocoop`."""

import fnmatch
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cocoop.bench.command import app as bench_app
from cocoop.bench.command import parse_bytes
from cocoop.data.command import Root
from cocoop.data.command import app as data_app
from cocoop.errors import CocoopError, UsageError, in_words, unknown
from cocoop.export.command import app as export_app
from cocoop.own.command import app as own_app
from cocoop.serve.command import app as serve_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Prompt learning for CLIP: zero-shot CLIP, CoOp and CoCoOp.",
)
app.add_typer(own_app)
app.add_typer(export_app)
app.add_typer(serve_app)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
out = Console(markup=False)  # names and labels are the user's, not markup
err = Console(stderr=True, markup=False)
_called: list[str] = []  # the words of this call, for plans


class Format(str, Enum):
    """What a report is written as."""

    table = "table"
    md = "md"
    csv = "csv"
    latex = "latex"
    html = "html"


class Listing(str, Enum):
    """What can be listed."""

    methods = "methods"
    presets = "presets"
    datasets = "datasets"
    protocols = "protocols"
    backbones = "backbones"


class Templates(str, Enum):
    """What zero-shot CLIP is prompted with."""

    dataset = "dataset"
    select7 = "select7"
    imagenet80 = "imagenet80"


class Learned(str, Enum):
    """Methods that the released code trains."""

    coop = "coop"
    cocoop = "cocoop"


class Place(str, Enum):
    """Where a class name stands in its prompt."""

    end = "end"
    middle = "middle"
    front = "front"


Budget = Annotated[
    str | None,
    typer.Option(
        "--memory-budget", help="Memory for the text encoder, e.g. 512MB; half of what is free if not given."
    ),
]


@app.callback()
def _global(debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False) -> None:
    if debug:
        os.environ["COCOOP_DEBUG"] = "1"


@app.command("list")
def list_(what: Annotated[Listing | None, typer.Argument(help="One kind; all by default.")] = None) -> None:
    """List methods, presets, datasets, protocols and backbones."""
    from cocoop import listing

    for kind in [what] if what else list(Listing):
        out.print(listing.table(kind.value, full=what is not None))


@app.command()
def run(
    protocols: Annotated[
        list[str], typer.Argument(metavar="PROTOCOL", help="One or more; see `cocoop list protocols`.")
    ],
    datasets: Annotated[str, typer.Option(help="Names or patterns, separated by commas.")] = "emoji/*",
    methods: Annotated[str, typer.Option(help="Names, separated by commas.")] = "zeroshot,coop,cocoop",
    seeds: Annotated[str, typer.Option(help="Numbers, separated by commas.")] = "1,2,3",
    shots: Annotated[int, typer.Option(help="Training images a class.")] = 16,
    source: Annotated[
        str | None,
        typer.Option(
            help="What cross-dataset and domain-generalization train on. Default: imagenet or the first "
            "dataset; all that have shifted domains."
        ),
    ] = None,
    backbone: Annotated[str, typer.Option(help="See `cocoop list backbones`.")] = "tiny-clip",
    folder: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("runs"),
    preset: Annotated[
        list[str] | None, typer.Option(help="Settings by name, one a method; repeatable.")
    ] = None,
    templates: Annotated[
        Templates, typer.Option(help="Of zero-shot: the dataset's own, or an ensemble.")
    ] = Templates.dataset,
    set_: Annotated[list[str] | None, typer.Option("--set", help="METHOD.FIELD=VALUE; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="Of the frozen towers: auto, fp32, tf32, bf16 or fp16.")
    ] = "auto",
    memory_budget: Budget = None,
    root: Root = None,
    workers: Annotated[
        str,
        typer.Option(metavar="N|ray[:ADDRESS]", help="Processes that share the work out, or a Ray cluster."),
    ] = "1",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each; all, shared out, if not given.")
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(help="Where the curves go, e.g. wandb, or none. [default: tensorboard, if there]"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print every setting and estimate the work.")
    ] = False,
) -> None:
    """Run protocols; finished cells are skipped, so the same command goes on after an interruption."""
    from cocoop import experiment

    with _interruptible():
        experiment.run(
            protocols,
            datasets=_matching(datasets),
            methods=_words(methods),
            seeds=_numbers(seeds),
            shots=shots,
            source=source,
            backbone=backbone,
            folder=folder,
            presets=[
                *(preset or []),
                *([f"zeroshot-{templates.value}"] if templates.value != "dataset" else []),
            ],
            overrides=set_ or [],
            device=device,
            precision=precision,
            memory_budget=parse_bytes(memory_budget),
            root=root,
            workers=workers,
            threads=threads,
            track=track,
            command=shlex.join(["cocoop", *_called]),
            dry_run=dry_run,
            console=out,
        )


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("demo-run"),
    full: Annotated[bool, typer.Option("--full", help="The paper's epochs and three seeds.")] = False,
) -> None:
    """Zero-shot CLIP, CoOp and CoCoOp on the embedded data, then the table and a report."""
    from cocoop import experiment

    with _interruptible():
        experiment.demo(folder, full, out)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="A run folder.")],
    format: Annotated[
        Format, typer.Option(help="csv has one line a record; html writes RUNS/report.html.")
    ] = Format.table,
    root: Root = None,
) -> None:
    """Show the tables of a run folder, or write its page."""
    from cocoop import experiment

    experiment.report(folder, format.value, out, root)


@app.command("import-official")
def import_official(
    file: Annotated[Path, typer.Argument(help="prompt_learner/model.pth.tar-N of a run.")],
    folder: Annotated[Path, typer.Option("--out", help="Where the prompt file goes.")],
    backbone: Annotated[str, typer.Option(help="What it was trained with.")] = "ViT-B-16/openai",
    method: Annotated[Learned | None, typer.Option(help="Refuse a file of another method.")] = None,
    dataset: Annotated[str, typer.Option(help="What it was trained on, for its template.")] = "imagenet",
    classes: Annotated[
        Path | None, typer.Option(help="File with the names it was trained on, one a line, in label order.")
    ] = None,
    position: Annotated[Place, typer.Option(help="Where the class name stands; CoOp only.")] = Place.end,
) -> None:
    """Turn a checkpoint of the released CoOp or CoCoOp code into a prompt file; nothing in it is run."""
    from cocoop import official
    from cocoop.backbone import load_backbone
    from cocoop.data.catalog import template_of
    from cocoop.files import read_lines

    path = official.import_official(
        file,
        folder,
        load_backbone(backbone),
        method=method.value if method else None,
        template=template_of(dataset),
        class_names=read_lines(classes) if classes else (),
        position=position.value,
    )
    out.print(f"{path}\nuse it with: cocoop.load_prompt({str(path)!r}, backbone)", soft_wrap=True)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="A run folder.")],
    json_: Annotated[bool, typer.Option("--json", help="Every cell, as JSON.")] = False,
) -> None:
    """Show what of a run folder is done, running, failed or missing."""
    from cocoop import status

    status.show(folder, json_, out)


@app.command()
def cache(
    prune: Annotated[
        str | None, typer.Option(help="Delete the longest unused beyond this size, e.g. 1GB.")
    ] = None,
) -> None:
    """Show the size of the image-feature cache, or prune it."""
    from cocoop.features import FeatureCache
    from cocoop.files import default_cache

    features = FeatureCache(default_cache())
    limit = parse_bytes(prune)
    if limit is not None:
        out.print(f"freed {features.prune(limit) / 1e6:.1f} MB")
    out.print(f"{features.folder}: {len(features.entries())} entries, {features.size() / 1e6:.1f} MB")


class _Interrupted(CocoopError):
    exit_code = 130


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise _Interrupted(
            "interrupted; what was finished is kept, and the same command goes on from there"
        ) from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise UsageError(f"{text!r} is not a list of whole numbers such as 1,2,3") from None


def _matching(text: str) -> tuple[str, ...]:
    from cocoop.data import DATASETS, is_source

    found: dict[str, None] = {}
    for word in _words(text):
        names = fnmatch.filter(DATASETS.names(), word) or [word] * is_source(word)
        if not names:
            raise unknown("dataset", word, DATASETS.names())
        found.update(dict.fromkeys(names))
    return tuple(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 the run failed, 2 the call was wrong, 130 interrupted."""
    logging.basicConfig(level=logging.ERROR)
    _called[:] = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=list(_called))
    except Exception as error:
        words = in_words(error)
        if words is None or os.environ.get("COCOOP_DEBUG"):
            raise
        err.print(Text.assemble(("error: ", "bold red"), words), soft_wrap=True)
        sys.exit(error.exit_code if isinstance(error, CocoopError) else 1)
