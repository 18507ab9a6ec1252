"""What `cocoop predict` and `cocoop features` do with `--engine`: images by the million, on a cluster."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import some, terminal

if TYPE_CHECKING:
    from cocoop.estimator.many import Job

Engine = Annotated[
    str | None,
    typer.Option(
        metavar="ray[:ADDRESS]",
        help="Work on a Ray cluster: IMAGES may also be .tar or .parquet files, and URLs that fsspec reads.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="With --engine: workers, each with the model; all that fit if not given."),
]


def check_engine(engine: str | None, out: Path | None, workers: int | None) -> tuple[str, Path] | None:
    """Return the engine and the folder, or None. Raises UsageError where options do not go together."""
    if engine is None:
        if workers:
            raise UsageError("--workers goes with --engine ray")
        return None
    if engine.partition(":")[0] != "ray":
        raise UsageError(f"--engine is ray or ray:ADDRESS, not {engine!r}")
    if out is None:
        raise UsageError("--engine ray writes Parquet files; give their folder: --out DIR")
    return engine, out


def run(place: tuple[str, Path], sources: Sequence[str], job: "Job", workers: int | None) -> None:
    """Answer all images of sources on the engine, and say how many; the same call finishes what is missing.

    Raises:
        UsageError: a source has no images, or the folder is for something else.
        CocoopError: the cluster is not there, or pieces cannot be read; the others are answered.
    """
    from cocoop.data.shards import find_shards
    from cocoop.estimator.progress import progress
    from cocoop.estimator.ray import run_on_ray

    engine, out = place
    console, start, counts = terminal(stderr=True), time.monotonic(), [0, 0]
    shards = find_shards(sources)
    with progress("pieces", len(shards), console) as advance:

        def done(images: int, errors: int) -> None:
            counts[0], counts[1] = counts[0] + images, counts[1] + errors
            advance(1)

        failed = run_on_ray(job, shards, out, workers, engine.partition(":")[2] or None, done)
    seconds = time.monotonic() - start
    rate = f"{counts[0]:,} images in {seconds:,.0f} s, {counts[1]:,} of them with an error"
    whole = len(shards) - len(failed)
    console.print(f"{rate}; {out} has {whole:,} of {len(shards):,} pieces", soft_wrap=True, highlight=False)
    if failed:
        raise CocoopError(f"{len(failed)} pieces cannot be read: {some(list(failed.values()))}")
