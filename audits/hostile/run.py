"""Gives hostile inputs to the library, each in a folder of its own in a process that may die of it.

A case fails where it raises anything but a `CocoopError`, prints a traceback, a warning or a control code,
has a message that does not name the thing, starts a program, opens a connection, writes where no command of
the trial writes, or costs more than the bounds below.
"""

import multiprocessing
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from audits.hostile.case import Case

SECONDS = 10.0  # of a processor: a refusal takes none, the largest image that is read about three
MEBIBYTES = 1536.0  # beyond what the process held: that image four times over
DEADLINE = 90.0  # seconds until a case that hangs is ended; other work may run beside it

KINDS = ("images", "tables", "archives", "splits", "names", "checkpoints", "tensors", "records")


@dataclass(frozen=True)
class Result:
    """What became of one case: refused or accepted, with which words, at which cost, and what was wrong."""

    name: str
    refused: bool
    seconds: float = 0.0
    mebibytes: float = 0.0
    wrong: str = ""
    message: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of many cases.

    Attributes:
        tried: how many there were.
        handled: that did no harm, refused or accepted.
        refused: with a message.
        accepted: with a result.
        slowest: processor seconds of the slowest.
        largest: memory of the largest, in MiB beyond what the process held.
        failures: name and reason of those that did harm.
        kinds: the same for every kind.
    """

    tried: int
    handled: int
    refused: int
    accepted: int
    slowest: float
    largest: float
    failures: tuple[str, ...]
    kinds: dict[str, "Outcome"] = field(default_factory=dict)


def cases(kind: str, seed: int) -> list[Case]:
    """Return the cases of a kind: the same for the same seed."""
    return list(import_module(f"audits.hostile.{kind}").cases(random.Random(seed)))


def run(seed: int, kinds: Iterable[str] = KINDS, every: int = 1) -> Outcome:
    """Try all cases of some kinds, or each of which `every` is a multiple, and count what became of them."""
    found = {kind: list(_try_all(kind, seed, every)) for kind in kinds}
    everything = [result for results in found.values() for result in results]
    return _count(everything, {kind: _count(results, {}) for kind, results in found.items()})


def _count(results: Sequence[Result], kinds: dict[str, Outcome]) -> Outcome:
    right = [result for result in results if not result.wrong]
    return Outcome(
        tried=len(results),
        handled=len(right),
        refused=sum(result.refused for result in right),
        accepted=sum(not result.refused for result in right),
        slowest=max((result.seconds for result in results), default=0.0),
        largest=max((result.mebibytes for result in results), default=0.0),
        failures=tuple(f"{result.name}: {result.wrong}" for result in results if result.wrong),
        kinds=kinds,
    )


def _try_all(kind: str, seed: int, every: int) -> Iterator[Result]:
    """Yield the result of each case; where one ends its process, another goes on behind it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["audits.hostile.worker", "cocoop.experiments.run", "cocoop.estimator.evaluate"]
    )
    place = 0
    while place is not None:
        ours, theirs = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory(prefix="cocoop-hostile-") as folder:
            process = context.Process(target=_work, args=(theirs, Path(folder), kind, seed, every, place))
            process.start()
            theirs.close()
            place = yield from _listen(ours, process, kind)
            process.kill()
            process.join()


def _listen(ours: Connection, process: multiprocessing.process.BaseProcess, kind: str) -> Iterator[Result]:
    """Yield what a worker says; return the place to go on from, None where it came to its end."""
    place, name = -1, "its cases"
    while True:
        try:
            word = ours.recv() if ours.poll(DEADLINE) else None
        except EOFError:
            process.join()
            word = f"ended its process, {process.exitcode}"
        if isinstance(word, Result):
            yield word
        elif isinstance(word, tuple):
            place, name = word
        elif word == "done":
            return None
        else:
            yield Result(f"{kind}/{name}", False, wrong=word or f"took more than {DEADLINE:.0f} s")
            return place + 1 if place >= 0 else None


def _work(theirs: Connection, folder: Path, kind: str, seed: int, every: int, place: int) -> None:
    from audits.hostile.worker import attempt, prepare

    place += -place % every
    found = cases(kind, seed)
    prepare(folder)
    for number in range(place, len(found), every):
        theirs.send((number, found[number].name))
        theirs.send(attempt(found[number], folder, f"{kind}/{found[number].name}"))
    theirs.send("done")
