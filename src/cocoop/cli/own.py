"""The commands for a person's own images: fit, predict, evaluate, explain, features."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from cocoop.cli import engine as engines
from cocoop.cli.engine import Engine, Workers
from cocoop.cli.options import (
    Backbone,
    Budget,
    Classes,
    ClassesFile,
    Data,
    Device,
    Encoding,
    LabelColumn,
    Labels,
    LabelSep,
    LabelsFrom,
    Model,
    Names,
    Overwrite,
    PathColumn,
    Precision,
    Root,
    Sep,
    Settings,
    SplitColumn,
    Testing,
    class_names,
    loading,
    parse_bytes,
)
from cocoop.errors import UsageError
from cocoop.utils.display import terminal

app = typer.Typer()
out_ = terminal()
err = terminal(stderr=True)


class Output(str, Enum):
    """What predictions are written as."""

    table = "table"
    json = "json"
    csv = "csv"


@app.command()
def fit(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="The model folder to write.")],
    method: Annotated[
        str | None,
        typer.Option(
            help="See `cocoop list methods`; CoCoOp if not given; auto for the best of the quick ones."
        ),
    ] = None,
    shots: Annotated[int, typer.Option(min=1, help="Training images a class, at most.")] = 16,
    backbone: Backbone = "auto",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over them; the preset's if not given.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="See `cocoop list presets`.")] = None,
    set_: Settings = None,
    new_classes: Annotated[
        str | None, typer.Option(help="A text file of names, or data with images of new classes.")
    ] = None,
    names: Names = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    sep: Sep = None,
    encoding: Encoding = None,
    labels_from: LabelsFrom = None,
    label_sep: LabelSep = None,
    labels: Labels = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the shots drawn and the training.")] = 1,
    device: Device = "auto",
    precision: Precision = "auto",
    memory_budget: Budget = None,
    root: Root = None,
    overwrite: Overwrite = False,
    unknown: Annotated[
        str | None,
        typer.Option(help="Images of none of the classes: data, or a class of DATA that stands for none."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
) -> None:
    """Train a classifier on labelled images; ends with what it gained over zero-shot CLIP."""
    with loading():
        from cocoop.data.own.reading import Reading
        from cocoop.estimator.fit import FitOptions
        from cocoop.estimator.fit import fit as run
        from cocoop.methods import DEFAULT
        from cocoop.methods._settings import parse_overrides

    method = method or DEFAULT
    settings = parse_overrides(set_ or [])
    if stray := settings.keys() - {method}:
        raise UsageError(f"--set {sorted(stray)[0]}.… is for another method than {method}")
    params = {
        "method": method,
        "backbone": backbone,
        "epochs": epochs,
        "preset": preset,
        "settings": settings.get(method),
        "seed": seed,
        "device": device,
        "precision": precision,
        "memory_budget": parse_bytes(memory_budget),
    }
    reading = Reading(path_column, label_column, split_column, sep, encoding, labels_from, label_sep, labels)
    run(
        FitOptions(data, out, shots, new_classes, names, root, params, reading, overwrite, dry_run, unknown),
        out_,
    )


@app.command()
def predict(
    model: Model,
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help="Files, folders or patterns.")],
    classes: Classes = None,
    classes_file: ClassesFile = None,
    top_k: Annotated[int, typer.Option(min=1, help="Names an image.")] = 3,
    format: Annotated[
        Output, typer.Option(help="csv and json are complete; write them with >.")
    ] = Output.table,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Below this probability (or score) an answer is unsure; the model's threshold if not given.",
        ),
    ] = None,
    similarity: Annotated[
        bool, typer.Option("--similarity", help="Cosines of image and name in place of probabilities.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    memory_budget: Budget = None,
    testing: Testing = "auto",
    engine: Engine = None,
    workers: Workers = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --engine: the folder of the answers.")
    ] = None,
) -> None:
    """Name images with a trained model, among its classes or any others."""
    if place := engines.check_engine(engine, out, workers):
        with loading():
            from cocoop.estimator.many import Job
            from cocoop.estimator.pull import pinned

        asked = Job(
            pinned(model),
            classes=class_names(classes, classes_file),
            top_k=top_k,
            min_confidence=min_confidence,
            options={"testing": testing},
            device=device,
            precision=precision,
            memory_budget=parse_bytes(memory_budget),
        )
        engines.run(place, images, asked, workers)
        return
    if out:
        raise UsageError("--out goes with --engine ray; else answers are printed, and written with >")
    with loading():
        from cocoop.estimator import load
        from cocoop.estimator import predict as predicting
        from cocoop.estimator import predict_output as output

    names = class_names(classes, classes_file)
    paths, left = predicting.find_images(images)
    for text in left:
        err.print(f"warning: {text}", style="yellow", highlight=False, soft_wrap=True)
    budget = parse_bytes(memory_budget)
    loaded = load(model, device=device, precision=precision, memory_budget=budget, testing=testing)
    count = min(top_k, len(loaded.classifier(names).class_names))
    if loaded.info_.multilabel and format is Output.csv:
        output.check_csv(loaded.classifier(names).class_names)
    by = predicting.measure_of(loaded, names, similarity)
    predictions = predicting.predict(loaded, paths, names, top_k, min_confidence, err, by)
    output.write(output.WRITERS[format.value](predictions, paths, count, by))


@app.command()
def evaluate(
    model: Model,
    data: Data,
    split: Annotated[str, typer.Option(help="Which images of the data.")] = "test",
    unknown: Annotated[
        str | None, typer.Option(help="Data with images of none of the classes: how many are told apart?")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder for the files.")] = Path("evaluation"),
    names: Names = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    sep: Sep = None,
    encoding: Encoding = None,
    labels_from: LabelsFrom = None,
    label_sep: LabelSep = None,
    labels: Labels = None,
    device: Device = "auto",
    precision: Precision = "auto",
    memory_budget: Budget = None,
    testing: Testing = "auto",
    root: Root = None,
) -> None:
    """Test a model on labelled images: accuracy, macro F1, calibration, classes, confusion."""
    with loading():
        from cocoop.data import open_dataset
        from cocoop.data.own.reading import Reading
        from cocoop.estimator import load
        from cocoop.estimator.evaluate import evaluate as run

    reading = Reading(path_column, label_column, split_column, sep, encoding, labels_from, label_sep, labels)
    dataset = open_dataset(data, root, names, reading, multilabel=True)
    budget = parse_bytes(memory_budget)
    loaded = load(model, device=device, precision=precision, memory_budget=budget, testing=testing)
    run(loaded, dataset, split, out, out_, open_dataset(unknown, root) if unknown else None)


@app.command()
def explain(
    model: Model,
    image: Annotated[
        Path | None, typer.Option(help="Also show what the Meta-Net makes of this image.")
    ] = None,
    words: Annotated[int, typer.Option(min=1, help="Nearest words of each vector.")] = 5,
) -> None:
    """Show the words nearest to what a model learned."""
    with loading():
        from cocoop.estimator import load
        from cocoop.estimator.explain import explain as run

    run(load(model), image, words, out_)


@app.command()
def features(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="The .parquet file to write; with --engine a folder.")],
    backbone: Backbone = "auto",
    names: Names = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    sep: Sep = None,
    encoding: Encoding = None,
    labels_from: LabelsFrom = None,
    label_sep: LabelSep = None,
    labels: Labels = None,
    device: Device = "auto",
    precision: Precision = "auto",
    root: Root = None,
    engine: Engine = None,
    workers: Workers = None,
) -> None:
    """Write the image features of a dataset to a Parquet file, or of millions of images to many."""
    if place := engines.check_engine(engine, out, workers):
        with loading():
            from cocoop.estimator.backbone import backbone_name
            from cocoop.estimator.many import Job

        name = backbone_name(backbone, photographs=True)  # nothing is read here
        engines.run(place, [data], Job(None, name, device=device, precision=precision), workers)
        return
    with loading():
        from cocoop.data import open_dataset
        from cocoop.data.own.reading import Reading
        from cocoop.estimator.backbone import backbone_for
        from cocoop.estimator.features import write_features

    reading = Reading(path_column, label_column, split_column, sep, encoding, labels_from, label_sep, labels)
    dataset = open_dataset(data, root, names, reading, multilabel=True)
    clip = backbone_for(backbone, dataset, device, precision, err)
    write_features(clip, dataset, out, out_)
