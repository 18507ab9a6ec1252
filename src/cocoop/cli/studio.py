"""The command `cocoop studio`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cocoop.cli.options import Backbone, Budget, Device, Precision, parse_bytes

app = typer.Typer()


@app.command()
def studio(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Of images; a new one, `studio`, if not given.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7861,
    backbone: Backbone = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Where models and copies are saved; FOLDER-studio if not given.")
    ] = None,
    template: Annotated[str, typer.Option(help="The prompt, with {} for the name.")] = "a photo of a {}.",
    max_upload: Annotated[str, typer.Option(help="Of the images of one request.")] = "64MB",
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    memory_budget: Budget = None,
) -> None:
    """Open a page to label a folder of images, train on it, look, correct, and take the model away."""
    from cocoop.deploy.serve.limits import Limits
    from cocoop.deploy.studio.server import studio as run

    size = parse_bytes(max_upload)
    assert size is not None
    run(
        folder,
        port,
        Console(markup=False),
        show,
        out=out,
        backbone=backbone,
        template=template,
        device=device,
        precision=precision,
        memory_budget=parse_bytes(memory_budget),
        limits=Limits(request_bytes=size),
    )
