"""The command `cocoop export`."""

from pathlib import Path
from typing import Annotated

import typer

from cocoop.cli.options import Classes, ClassesFile, Model, Overwrite, class_names, loading
from cocoop.utils.display import terminal

app = typer.Typer()


@app.command()
def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    classes: Classes = None,
    classes_file: ClassesFile = None,
    testing: Annotated[
        str, typer.Option(help="exact, or linear: an approximation without the text tower.")
    ] = "exact",
    overwrite: Overwrite = False,
) -> None:
    """Write a model for fixed class names as one ONNX file, checked against PyTorch."""
    with loading():
        from cocoop.deploy.onnx.export import export as run
        from cocoop.estimator import load

    loaded = load(model, device="cpu", precision="fp32", testing=testing)
    run(loaded, class_names(classes, classes_file), out, terminal(), overwrite)
