"""The command `cocoop serve`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cocoop.cli.options import Budget, Device, Precision, Testing, loading, parse_bytes

app = typer.Typer()


@app.command()
def serve(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...", help="Folders that `cocoop fit` wrote, or hf:OWNER/NAME of the Hub."
        ),
    ],
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    max_upload: Annotated[str, typer.Option(help="Of one request.")] = "64MB",
    max_classes: Annotated[int, typer.Option(min=1, help="Names in one request.")] = 1000,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name under which a proxy shows it; repeatable.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    memory_budget: Budget = None,
    testing: Testing = "auto",
) -> None:
    """Open a page that shows models and zero-shot CLIP side by side, with an HTTP API."""
    with loading():
        from cocoop.deploy.serve.limits import Limits
        from cocoop.deploy.serve.server import serve as run

    size = parse_bytes(max_upload)
    assert size is not None
    limits = Limits(request_bytes=size, classes=max_classes)
    run(
        models,
        host,
        port,
        limits,
        Console(markup=False),
        names=allowed_host or (),
        device=device,
        precision=precision,
        memory_budget=parse_bytes(memory_budget),
        testing=testing,
    )
