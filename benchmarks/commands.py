"""How long a person waits for a command: until the first line, until the end, and the processors' time.

    python -m benchmarks.commands --before ../an-earlier-checkout

Every command runs on a terminal of its own, as often as `--repeats` says, those of the two checkouts in
turns. On a machine that is not quiet, the processors' seconds say more than those of the clock.
"""

import os
import pty
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks.measure import machine, versions

HERE = Path(__file__).parent.parent
LISTING = (
    "--version",
    "--help",
    "list",
    "list methods",
    "list datasets",
    "list backbones",
    "list presets",
    "data list",
    "status RUNS",
    "report RUNS --format md",
)
COMPUTING = (
    "fit emoji/activities --epochs 1 --out NEW",
    "predict MODEL IMAGES",
    "features emoji/activities --out NEW.parquet",
    "run base-to-new --datasets emoji/activities --methods zeroshot --out NEW",
)
DEMO = "demo --out NEW"
CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\s")


class Times(NamedTuple):
    """Seconds of a command: until something is to be read, until the end, and of the processors."""

    first: float
    whole: float
    processors: float


def measure(checkout: Path, words: Sequence[str], cache: Path) -> Times:
    """Run a command of a checkout on a terminal of its own. Raises RuntimeError where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "COCOOP_CACHE": str(cache)}
    ours, theirs = pty.openpty()
    begin, used = time.perf_counter(), os.times()
    process = subprocess.Popen(
        [sys.executable, "-m", "cocoop", *words], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    first, said = 0.0, b""
    while True:
        try:
            said += os.read(ours, 1 << 16)
        except OSError:  # how a terminal ends
            break
        if not first and CONTROL.sub(b"", said):
            first = time.perf_counter() - begin
    os.close(ours)
    if process.wait():
        raise RuntimeError(f"cocoop {' '.join(words)} failed: {said[-2000:].decode(errors='replace')}")
    whole, after = time.perf_counter() - begin, os.times()
    spent = after.children_user + after.children_system - used.children_user - used.children_system
    return Times(first, whole, spent)


def compare(checkouts: Sequence[Path], line: str, repeats: int) -> list[Times]:
    """Return the medians of a command in every checkout, run in turns, each time with a new cache."""
    runs: list[list[Times]] = [[] for _ in checkouts]
    for _ in range(repeats):
        for checkout, times in zip(checkouts, runs, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                times.append(measure(checkout, _filled(line, Path(folder)), Path(folder) / "cache"))
    return [Times(*map(statistics.median, zip(*times, strict=True))) for times in runs]


def _filled(line: str, folder: Path) -> list[str]:
    """Return the words of a command with the places that it needs, made by the checkout that measures."""
    made = Path(tempfile.gettempdir()) / "cocoop-benchmarks-commands"
    needed = {
        "RUNS": "run base-to-new --datasets emoji/activities,emoji/food --methods zeroshot --out RUNS",
        "MODEL": "fit emoji/activities --epochs 1 --out MODEL",
        "IMAGES": "data export emoji/activities --split test --out IMAGES",
    }
    for name, command in needed.items():
        if name in line.split() and not (made / name).exists():
            words = [str(made / name) if word == name else word for word in command.split()]
            measure(HERE, words, made / "cache")
    places = {name: str(made / name) for name in needed}
    new = str(folder / "new")
    return [places.get(word, word.replace("NEW", new)) for word in line.split()]


def main(
    before: Annotated[
        Path | None, typer.Option(help="An earlier checkout to measure beside this one.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each command; medians are shown.")] = 3,
    demo: Annotated[bool, typer.Option(help="Measure the demo too, once.")] = False,
) -> None:
    """Print a table in Markdown: the clock until the first line and until the end, and the processors."""
    checkouts = [*([before] if before else []), HERE]
    names = ["before", "now"][-len(checkouts) :]
    head = [f"{what} {name}" for name in names for what in ("first line", "whole", "processors")]
    print("| command | " + " | ".join(f"{name}, s" for name in head) + " |")
    print("| --- |" + " ---: |" * len(head))
    lines = [(line, repeats) for line in LISTING + COMPUTING] + [(DEMO, 1)] * demo
    for line, count in lines:
        seconds = [value for times in compare(checkouts, line, count) for value in times]
        print(f"| `cocoop {line}` | " + " | ".join(f"{value:.2f}" for value in seconds) + " |", flush=True)
    print(
        f"\n{machine()}; {versions()}; medians of {repeats}; load before and behind: {os.getloadavg()[0]:.1f}"
    )
    shutil.rmtree(Path(tempfile.gettempdir()) / "cocoop-benchmarks-commands", ignore_errors=True)


if __name__ == "__main__":
    typer.run(main)
