"""The command `cocoop reproduce`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocoop.cli.options import Budget, Device, Precision, Root, Settings, parse_bytes
from cocoop.cli.run import called, interruptible, matching, numbers
from cocoop.utils.display import terminal

if TYPE_CHECKING:
    from cocoop.experiments.record import Record

app = typer.Typer()
out = terminal(highlight=False)


@app.command()
def reproduce(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="table-1 to table-5 or figure-4 of the paper, or a method.")
    ],
    root: Root = None,
    datasets: Annotated[str | None, typer.Option(help="Only these of the table's.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Numbers, separated by commas. [default: 1,2,3]")] = None,
    shots: Annotated[int | None, typer.Option(help="Training images a class. [default: 16]")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Test on a sample of 500 images a test.")] = False,
    backbone: Annotated[
        str, typer.Option(help="See `cocoop list backbones`; the paper's if not given.")
    ] = "ViT-B-16/openai",
    folder: Annotated[
        Path | None, typer.Option("--out", help="The run folder. [default: reproduce-TABLE]")
    ] = None,
    preset: Annotated[
        list[str] | None, typer.Option(help="See `cocoop list presets`; one a method, repeatable.")
    ] = None,
    set_: Settings = None,
    device: Device = "auto",
    precision: Precision = "auto",
    memory_budget: Budget = None,
    workers: Annotated[
        str,
        typer.Option(metavar="N|ray[:ADDRESS]", help="Processes that share the work out, or a Ray cluster."),
    ] = "1",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each; all, shared out, if not given.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be run.")] = False,
) -> None:
    """Run a table of the paper, or a method's own, and put the published values beside ours."""
    from cocoop.backbones.names import weights_to_fetch
    from cocoop.experiments import run as experiment
    from cocoop.experiments.published_tables import QUICK, published_table, require_data

    chosen = published_table(table, matching(datasets) if datasets else ())
    require_data(chosen, root)
    if fetched := weights_to_fetch(backbone):
        out.print(f"weights: {fetched[1] / 1e9:.1f} GB will be fetched from {fetched[0]} on the Hub")
    place = folder or Path(f"reproduce-{table}{'-quick' if quick else ''}")
    with interruptible():
        experiment.run(
            chosen.protocol,
            datasets=chosen.datasets,
            methods=chosen.methods,
            seeds=numbers(seeds) if seeds else chosen.seeds,
            shots=shots or chosen.shots,
            source=chosen.source,
            sample=QUICK if quick else 0,
            backbone=backbone,
            folder=place,
            presets=preset or [],
            overrides=set_ or [],
            device=device,
            precision=precision,
            memory_budget=parse_bytes(memory_budget),
            root=root,
            workers=workers,
            threads=threads,
            command=shlex.join(["cocoop", *called.get()]),
            dry_run=dry_run,
            estimate=True,
            console=out,
            report=lambda records: _show(records, place),
        )


def _show(records: "Sequence[Record]", folder: Path) -> None:
    from cocoop.report.show import show
    from cocoop.report.tables.against import against, differences, terminal
    from cocoop.report.tables.results import results
    from cocoop.utils.files import write_text

    for result in results(records):
        show(result, out)
        frame = against(result)
        if frame.empty:
            out.print(f"{result.protocol.title}: there are no published values that are known here")
            continue
        out.print(terminal(frame, f"{result.protocol.title}: ours and the published"))
        within = frame["within"].dropna()
        if len(within):
            out.print(
                f"{int(within.sum())} of {len(within)} values of learned prompts are within the spread."
            )
        for line in differences(result):
            out.print(f"Other than published: {line}.")
        path = folder / f"against-{result.name}.csv"
        write_text(path, frame.to_csv(index=False))
        out.print(f"all of it: {path}", soft_wrap=True)
