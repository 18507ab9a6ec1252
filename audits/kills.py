"""Kill -9 `cocoop run` at random moments, finish it, and compare with an undisturbed run byte by byte.

    python -m audits.kills --kills 20

Exits 1 where a single byte differs, apart from what any two runs differ in: time stamps, timings, memory.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.console import Console
from rich.table import Table
from safetensors import safe_open

from cocoop.cli import main
from tests.run_folder import contents

RUN = ("run", "base-to-new", "--backbone", "toy", "--datasets", "emoji/activities", "--seeds", "0")
LONG = ("--set", "coop.epochs=40", "--set", "cocoop.epochs=12")


def command(words: Sequence[str], cache: str) -> None:
    """Be the command `cocoop`, silently and with a feature cache of its own."""
    os.environ["COCOOP_CACHE"] = cache
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    main(words)


def start(folder: Path, extra: Sequence[str]) -> BaseProcess:
    """Start the run in a process that does not have to import everything first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cocoop.experiments.run"])
    words = [*RUN, "--threads", "1", "--out", str(folder), *extra]
    process = context.Process(target=command, args=(words, f"{folder}-cache"))
    process.start()
    return process


def finish(folder: Path, extra: Sequence[str]) -> float:
    """Let the run come to its end and return the seconds since it began to work."""
    process = start(folder, extra)
    wait_for_work(folder, process)
    began = time.monotonic()
    process.join()
    if process.exitcode:
        raise SystemExit(f"the run in {folder} failed")
    return time.monotonic() - began


def wait_for_work(folder: Path, process: BaseProcess) -> None:
    """Wait while the process starts; the plan is written when the work begins."""
    before = written(folder)
    while process.is_alive() and written(folder) == before:
        time.sleep(0.001)


def written(folder: Path) -> list[int]:
    """Return when the plans of a folder were written."""
    return [path.stat().st_mtime_ns for path in folder.glob("plans/*.json")]


def kill(folder: Path, after: float, extra: Sequence[str]) -> dict[str, object] | None:
    """Run for some seconds, kill -9, and say what was there; None where the run was done before."""
    process = start(folder, extra)
    wait_for_work(folder, process)
    process.join(after)
    if not process.is_alive():
        return None
    process.kill()
    process.join()
    fits = [len(json.loads(header(path)["trace"])["lr"]) for path in folder.glob("prompts/*.unfinished")]
    return {
        "after": after,
        "records": len(list(folder.glob("records/*/*/*.json"))),
        "prompts": len(list(folder.glob("prompts/*.safetensors"))),
        "epochs": fits[0] if fits else 0,
        "litter": len(list(folder.rglob("*.tmp"))),
    }


def header(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file."""
    with safe_open(path, "pt") as file:
        return file.metadata()


def trial(
    root: Path, kills: int, rng: random.Random, extra: Sequence[str] = LONG
) -> tuple[list[dict[str, object]], list[str]]:
    """Kill runs until there were `kills`; return what each kill hit, and the names of files that differ."""
    work = finish(root / "undisturbed", extra)
    expected = contents(root / "undisturbed")
    hits: list[dict[str, object]] = []
    differing: list[str] = []
    number = 0
    while len(hits) < kills:
        number += 1
        folder = root / f"killed-{number}"
        while len(hits) < kills and (hit := kill(folder, rng.uniform(0, 0.6 * work), extra)):
            hits.append({"run": number} | hit)
        finish(folder, extra)
        results = contents(folder)
        differing += [name for name in expected.keys() | results if expected.get(name) != results.get(name)]
    return hits, differing


def report() -> None:
    """Run the trial and print what each kill hit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--workers", default="1", help="as for cocoop run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        extra = [*LONG, "--workers", options.workers]
        hits, differing = trial(Path(root), options.kills, random.Random(options.seed), extra)
    table = Table(
        "run", "killed after, s", "records", "prompts", "epochs of the fit kept", "half-written files"
    )
    for hit in hits:
        row = (
            hit["run"],
            f"{hit['after']:.2f}",
            hit["records"],
            hit["prompts"],
            hit["epochs"],
            hit["litter"],
        )
        table.add_row(*map(str, row))
    console = Console()
    console.print(table)
    console.print(f"{len(hits)} kills, {hits[-1]['run']} runs finished, {len(differing)} files differ")
    sys.exit(bool(differing))


if __name__ == "__main__":
    report()
