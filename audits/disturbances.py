"""Disks that are full or read-only, clocks that jump, and two writers at one place.

    python -m audits.faults --part disturbances --no-write

Runs meet a disk that takes nothing more from the n-th write on, for every n; each must stop with an error in
words, and the same command must then end with the bytes of an undisturbed run.
"""

import errno
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch

from audits.killed_writers import Writer, start_writing, writers
from audits.kills import RUN, command
from tests.run_folder import contents

SHORT = ("--methods", "zeroshot,cocoop", "--shots", "1", "--set", "cocoop.epochs=3", "--threads", "1")
DECADE = 3.2e8  # seconds
Found = tuple[int, list[str]]  # how many were tried, and what was wrong


def full(number: int) -> None:
    """Let every write from the n-th on fail for want of space."""
    _break(os, "fsync", number, errno.ENOSPC)


def read_only(number: int) -> None:
    """Let nobody make a file from the n-th on."""
    _break(tempfile, "mkstemp", number, errno.EROFS)


def _break(module: Any, name: str, number: int, code: int) -> None:
    calls, whole = count(1), getattr(module, name)

    def broken(*arguments: Any, **named: Any) -> Any:
        if next(calls) >= number:
            raise OSError(code, os.strerror(code))
        return whole(*arguments, **named)

    setattr(module, name, broken)


def jumping(seed: int) -> None:
    """Let the clock jump by up to a decade, either way, whenever it is looked at."""
    rng, right = random.Random(seed), time.time
    time.time = lambda: right() + rng.uniform(-DECADE, DECADE)  # type: ignore[assignment]


def disturbed(folder: Path, disturb: str, number: int) -> tuple[int, str]:
    """Do the run in a process where something is wrong; return its exit status and what it said."""
    said = folder.with_name(f"{folder.name}.txt")
    process = _process(_command, folder, disturb, number, said)
    process.start()
    process.join()
    return process.exitcode or 0, said.read_text(encoding="utf-8")


def _command(folder: Path, disturb: str, number: int, said: Path) -> None:
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if disturb:
        {"full": full, "read_only": read_only, "jumping": jumping}[disturb](number)
    command([*RUN, *SHORT, "--out", str(folder)], f"{folder}-cache")


def _process(target: Any, *arguments: Any) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cocoop.experiments.run", "audits.kills"])
    return context.Process(target=target, args=arguments)


def disks(root: Path, disturb: str, expected: dict[str, bytes], every: int) -> Found:
    """Disturb a run at its every n-th write until it comes through; finish each, and compare."""
    problems = []
    for tried, number in enumerate(count(1, every)):
        folder = root / f"{disturb}-{number}"
        status, said = disturbed(folder, disturb, number)
        if status == 0:
            return tried, problems
        if status != 1 or "error:" not in said or "Traceback" in said:
            problems.append(f"{disturb} at write {number}: status {status}: {said}")
        problems += _finish(folder, f"{disturb} at write {number}", expected)
    raise AssertionError


def clocks(root: Path, expected: dict[str, bytes], times: int) -> Found:
    """Run with a clock that jumps; nothing may depend on it."""
    problems = []
    for number in range(times):
        folder = root / f"clock-{number}"
        status, said = disturbed(folder, "jumping", number)
        if status:
            problems.append(f"clock {number}: {said}")
        problems += _finish(folder, f"clock {number}", expected)
    return times, problems


def together(root: Path, expected: dict[str, bytes], times: int) -> Found:
    """Start the same run twice at once."""
    problems = []
    for number in range(times):
        folder = root / f"together-{number}"
        both = [_process(_command, folder, "", 0, root / f"together-{number}-{i}.txt") for i in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join()
            if process.exitcode:
                problems.append(f"two runs at once, {number}: exit status {process.exitcode}")
        problems += _finish(folder, f"two runs at once, {number}", expected)
    return times, problems


def two_writers(root: Path, kinds: dict[str, Writer], seconds: float) -> Found:
    """Let two processes write to one place without a pause, and read what is there meanwhile."""
    reads, problems = 0, []
    for name in ("model save", "feature cache", "report"):  # claims keep the others to one process
        writer, folder = kinds[name], root / f"two-{name}"
        folder.mkdir()
        writer.write(folder, 0)
        both = [start_writing(writer.write, folder) for _ in range(2)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            reads += 1
            try:
                writer.read(folder)
            except Exception as error:  # whatever it is, the file was not whole
                problems.append(f"two writers, {name}: {type(error).__name__}: {error}")
        for process in both:
            if not process.is_alive():
                problems.append(f"two writers, {name}: one gave up")
            process.kill()
            process.join()
    return reads, problems


def _finish(folder: Path, what: str, expected: dict[str, bytes]) -> Iterator[str]:
    status, said = disturbed(folder, "", 0)
    if status:
        yield f"{what}: the run cannot be finished: {said}"
    found = contents(folder)
    yield from (
        f"{what}: {name} differs" for name in expected.keys() | found if expected.get(name) != found.get(name)
    )


def run(every: int, times: int) -> dict[str, Found]:
    """Try all of them.

    Args:
        every: of the writes of a run, how many apart the disk fails.
        times: how often the clock jumps, and two run at once.
    """
    torch.set_num_threads(1)  # forked processes have no pool of threads
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        os.environ["COCOOP_CACHE"] = str(root / "cache")
        status, said = disturbed(root / "undisturbed", "", 0)
        assert status == 0, said
        expected = contents(root / "undisturbed")
        return {
            "disk full": disks(root, "full", expected, every),
            "read-only folder": disks(root, "read_only", expected, every),
            "clock that jumps": clocks(root, expected, times),
            "two runs at once": together(root, expected, times),
            "two writers at one file": two_writers(root, writers(root / "undisturbed"), seconds=2.0),
        }
