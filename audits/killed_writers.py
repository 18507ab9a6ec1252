"""Kill -9 whatever writes a file, in the middle of it, and read back what is there: the old or the new.

    python -m audits.faults --part kills --no-write

A process writes one kind of file over and over, alternating between two contents, and is killed at a random
moment.
"""

import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch

import cocoop
from cocoop.backbones.cache import FeatureCache
from cocoop.experiments.store import Store
from cocoop.report.page import html
from cocoop.training.checkpoint import Checkpoint, Snapshot, TrainingLog
from cocoop.utils.files import sweep

IMAGES = [np.full((32, 32, 3), value, np.uint8) for value in (0, 80, 160, 240)]
CLASSES = ("black", "dark grey", "light grey", "white")
MOMENT = 0.25  # seconds that a writer lives, at most


@dataclass(frozen=True)
class Writer:
    """One kind of file.

    Attributes:
        write: writes content 0 or 1 into a folder, over what is there.
        read: returns which content is there; raises where it is neither.
    """

    write: Callable[[Path, int], None]
    read: Callable[[Path], int]


def model(version: int) -> cocoop.PromptClassifier:
    """Return one of two models that answer differently."""
    made = cocoop.CoOp("toy", seed=version, epochs=1, preset="coop-quick", settings={"ctx_init": None})
    return made.fit(IMAGES, CLASSES)


def write_model(folder: Path, version: int) -> None:
    """Save a model where another one is."""
    _models()[version].save(folder / "model", overwrite=True)


def fit_model(folder: Path, version: int) -> None:
    """Fit a model and save it where another one is."""
    model(version).save(folder / "model", overwrite=True)


def read_model(folder: Path) -> int:
    """Load the model, and tell by its answers which one it is."""
    answers = cocoop.load(folder / "model").predict_proba(IMAGES)
    return [np.array_equal(answers, made.predict_proba(IMAGES)) for made in _models()].index(True)


def write_entry(folder: Path, version: int) -> None:
    """Put an entry into the feature cache; what is under a key never changes."""
    FeatureCache(folder).put(f"{version:04}", torch.full((2000, 64), float(version)))


def read_entry(folder: Path) -> int:
    """Get them; a damaged one would be none, and the first was there before anything was killed."""
    entries = [FeatureCache(folder).get(key) for key in ("0000", "0001")]
    assert entries[0] is not None
    assert all(each is None or each.unique().tolist() == [i] for i, each in enumerate(entries))
    return sum(each is not None for each in entries) - 1


def write_checkpoint(folder: Path, version: int) -> None:
    """Save the state of a fit."""
    tensors = {"learned.ctx": torch.full((2000, 64), float(version))}
    Checkpoint(folder / "fit.unfinished", "key").save(
        lambda: Snapshot(tensors, TrainingLog([0.1], [float(version)]))
    )


def read_checkpoint(folder: Path) -> int:
    """Load it."""
    snapshot = Checkpoint(folder / "fit.unfinished", "key").load()
    assert snapshot is not None
    assert snapshot.tensors["learned.ctx"].unique().tolist() == snapshot.log.loss
    return int(snapshot.log.loss[0])


def write_record(run: Path, folder: Path, version: int) -> None:
    """Write a finished cell: one of two records of it, with their predictions."""
    record = next(Store(run).records())
    labels = torch.full((record.total,), version, dtype=torch.int32)
    top = {"classes": labels[:, None], "probabilities": torch.ones(record.total, 1), "labels": labels.clone()}
    Store(folder).write(record.model_copy(update={"correct": version}), top)


def read_record(folder: Path) -> int:
    """Read the record and its predictions."""
    store = Store(folder)
    (record,) = store.records()
    with suppress(cocoop.CocoopError):  # predictions are written first: those of the other one are detected
        assert store.predictions(record).labels.unique().tolist() == [record.correct]
    return record.correct


def write_report(run: Path, folder: Path, version: int) -> None:
    """Write the page of a run."""
    if not (folder / "records").exists():
        (folder / "records").symlink_to(run / "records")
    html.write(Store(folder))


def read_report(folder: Path) -> int:
    """Look whether the page and all it shows are there to their ends."""
    (page,) = folder.rglob("*.html")
    assert page.read_text(encoding="utf-8").rstrip().endswith("</html>")
    return 0


def writers(run: Path) -> dict[str, Writer]:
    """Return all kinds of files; `run` is a finished run folder."""
    return {
        "fit": Writer(fit_model, read_model),
        "model save": Writer(write_model, read_model),
        "feature cache": Writer(write_entry, read_entry),
        "checkpoint of a fit": Writer(write_checkpoint, read_checkpoint),
        "record": Writer(partial(write_record, run), read_record),
        "report": Writer(partial(write_report, run), read_report),
    }


def trial(name: str, writer: Writer, folder: Path, kills: int, rng: random.Random) -> list[str]:
    """Kill a writer again and again; return what was wrong with what it left."""
    folder.mkdir(parents=True)
    writer.write(folder, 0)
    problems = []
    for number in range(kills):
        process = start_writing(writer.write, folder)
        process.join(rng.uniform(0, MOMENT))
        process.kill()
        process.join()
        try:
            writer.read(folder)
        except Exception as error:  # whatever it is, the file was not whole
            problems.append(f"{name}, kill {number}: {type(error).__name__}: {error}")
    litter = len(list(folder.rglob(".*.tmp")))
    sweep(folder, age=0.0)
    writer.write(folder, 1)
    if litter and list(folder.rglob(".*.tmp")):
        problems.append(f"{name}: half-written files stay")
    return problems


def start_writing(write: Callable[[Path, int], None], folder: Path) -> BaseProcess:
    """Start a process that writes for ever; return when it has begun."""
    started = folder / ".started"
    started.unlink(missing_ok=True)
    context = multiprocessing.get_context("fork")  # everything is loaded already; it computes nothing
    process = context.Process(target=_write_for_ever, args=(write, folder, started))
    process.start()
    while process.is_alive() and not started.exists():
        time.sleep(0.0005)
    return process


def _write_for_ever(write: Callable[[Path, int], None], folder: Path, started: Path) -> None:
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    started.touch()
    for number in count():
        write(folder, number % 2)


def run(kills: int, seed: int) -> Mapping[str, list[str]]:
    """Kill every writer `kills` times; return the problems of each."""
    torch.set_num_threads(1)  # forked processes have no pool of threads
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        os.environ["COCOOP_CACHE"] = str(root / "cache")
        folder = root / "run"
        cocoop.run(
            "base-to-new", datasets=["emoji/activities"], methods=["zeroshot"], backbone="toy", folder=folder
        )
        kinds = writers(folder)
        return {name: trial(name, each, root / name, kills, rng) for name, each in kinds.items()}


_MADE: list[cocoop.PromptClassifier] = []


def _models() -> list[cocoop.PromptClassifier]:
    if not _MADE:
        _MADE.extend(model(version) for version in (0, 1))
    return _MADE
