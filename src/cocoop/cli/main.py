"""The command `cocoop`."""

import importlib.metadata
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cocoop.cli.backbones import app as backbones_app
from cocoop.cli.data import app as data_app
from cocoop.cli.export import app as export_app
from cocoop.cli.options import Overwrite, parse_bytes
from cocoop.cli.own import app as own_app
from cocoop.cli.push import app as push_app
from cocoop.cli.reproduce import app as reproduce_app
from cocoop.cli.run import app as run_app
from cocoop.cli.run import called
from cocoop.cli.serve import app as serve_app
from cocoop.cli.studio import app as studio_app
from cocoop.errors import CocoopError, UsageError, in_words
from cocoop.utils.display import terminal

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Prompt learning for CLIP: CoOp, CoCoOp and what came after, beside zero-shot CLIP.",
)
app.add_typer(run_app)
app.add_typer(reproduce_app)
app.add_typer(own_app)
app.add_typer(export_app)
app.add_typer(push_app)
app.add_typer(serve_app)
app.add_typer(studio_app)
app.add_typer(data_app, name="data")
app.add_typer(backbones_app, name="backbones")
out = terminal()
err = terminal(stderr=True)


class Listing(str, Enum):
    """What can be listed."""

    methods = "methods"
    presets = "presets"
    datasets = "datasets"
    protocols = "protocols"
    backbones = "backbones"


class Place(str, Enum):
    """Where a class name stands in its prompt."""

    end = "end"
    middle = "middle"
    front = "front"


def _version(asked: bool) -> bool:
    if asked:
        out.print(f"cocoop {importlib.metadata.version('cocoop')}", highlight=False)
        raise typer.Exit
    return asked


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if debug:
        os.environ["COCOOP_DEBUG"] = "1"


@app.command("list")
def list_(
    what: Annotated[Listing | None, typer.Argument(help="One kind; all by default.")] = None,
    method: Annotated[
        str | None, typer.Argument(help="With presets: every setting of those of one method.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="With METHOD: the settings as they are on it.")] = None,
) -> None:
    """List methods, presets, datasets, protocols and backbones."""
    from cocoop.cli import list as listing
    from cocoop.cli import presets

    if method is not None and what != Listing.presets:
        raise UsageError(f"only presets are listed for one method: cocoop list presets {method}")
    if dataset is not None and method is None:
        raise UsageError(f"--dataset needs a method: cocoop list presets METHOD --dataset {dataset}")
    if method is not None:
        out.print(presets.show(method, dataset))
        return
    for kind in [what] if what else list(Listing):
        out.print(listing.table(kind.value, full=what is not None))


@app.command("import-official")
def import_official(
    path: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, or its prompt_learner/model.pth.tar-N.")
    ],
    folder: Annotated[Path, typer.Option("--out", help="The model folder to write.")],
    backbone: Annotated[str, typer.Option(help="What it was trained with.")] = "ViT-B-16/openai",
    method: Annotated[str | None, typer.Option(help="Refuse a checkpoint of another method.")] = None,
    dataset: Annotated[str, typer.Option(help="What it was trained on, for its template.")] = "imagenet",
    class_names: Annotated[
        Path | None, typer.Option(help="File with the names it was trained on, one a line, in label order.")
    ] = None,
    position: Annotated[Place, typer.Option(help="Where the class name stands; CoOp only.")] = Place.end,
    overwrite: Overwrite = False,
) -> None:
    """Turn a checkpoint of the released CoOp or CoCoOp code into a model folder; nothing in it is run."""
    from cocoop.data.benchmark.catalog import template_of
    from cocoop.estimator.import_released import import_released
    from cocoop.utils.files import read_lines

    import_released(
        path,
        folder,
        backbone,
        out,
        overwrite,
        method=method,
        template=template_of(dataset),
        class_names=read_lines(class_names) if class_names else (),
        position=position.value,
    )


@app.command()
def cache(
    prune: Annotated[
        str | None, typer.Option(help="Delete the longest unused beyond this size, e.g. 1GB.")
    ] = None,
) -> None:
    """Show the size of the image-feature cache, or prune it."""
    from cocoop.backbones.cache import FeatureCache
    from cocoop.utils.files import default_cache

    features = FeatureCache(default_cache())
    limit = parse_bytes(prune)
    if limit is not None:
        out.print(f"freed {features.prune(limit) / 1e6:.1f} MB")
    out.print(f"{features.folder}: {len(features.entries())} entries, {features.size() / 1e6:.1f} MB")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 the run failed, 2 the call was wrong, 130 interrupted."""
    logging.basicConfig(level=logging.ERROR)
    warnings.formatwarning = lambda message, *place, **named: f"warning: {message}\n"
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of an image that it reads all the same, or refuses
    # read when torch is loaded: threads that wait sleep, and leave the cores to other processes
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.formatwarning = lambda message, *rest, **more: f"warning: {message}\n"
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        called.set(tuple(words))
        app(args=words)
    except Exception as error:
        message = in_words(error)
        if message is None or os.environ.get("COCOOP_DEBUG"):
            raise
        err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
        sys.exit(error.exit_code if isinstance(error, CocoopError) else 1)
