"""Damage every kind of file that is read back, in every way a disk does: detected, rebuilt, or no difference.

    python -m audits.faults --part damage --no-write

Files are cut off, single bits are turned, and files of one kind are exchanged. Reading must then give the
same values as before, or an error in words, or values computed anew; anything else is wrong.
"""

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import cocoop
from audits.killed_writers import CLASSES, IMAGES, model
from cocoop.backbones.cache import FeatureCache
from cocoop.data import open_dataset
from cocoop.data.decode import open_image
from cocoop.experiments.store import Store
from cocoop.report.tables.results import results
from cocoop.training.checkpoint import Checkpoint, Snapshot, TrainingLog
from cocoop.utils import assets as embedded
from cocoop.utils.files import digest

CUTS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)  # shares of a file that are left
DETECTED, REBUILT, SAME, WRONG = "detected", "rebuilt", "no difference", "wrong"


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        files: what is damaged, one at a time; the first two are exchanged.
        read: reads them all back, to values that can be compared. Raises CocoopError.
        dropped: what `read` gives where damaged files count as absent, and are made again.
    """

    files: list[Path]
    read: Callable[[], Any]
    dropped: Sequence[Any] = ()


def damages(kind: Kind, flips: int, rng: random.Random) -> Iterator[tuple[str, Mapping[Path, bytes]]]:
    """Yield damages: a name, and the new contents of the files."""
    first, *others = kind.files
    data = first.read_bytes()
    for share in CUTS:
        yield f"{first.name} cut to {share:.0%}", {first: data[: int(share * len(data))]}
    yield f"{first.name} one byte short", {first: data[:-1]}
    for number in range(flips):
        path = kind.files[number % len(kind.files)]
        data = bytearray(path.read_bytes())
        # headers are small and matter most, so half of the bits are turned there
        place = rng.randrange(min(len(data), 400) if number % 4 < 2 else len(data))
        data[place] ^= 1 << rng.randrange(8)
        yield f"{path.name} byte {place}", {path: bytes(data)}
    if others:
        yield f"{first.name} exchanged", {first: others[0].read_bytes(), others[0]: first.read_bytes()}


def outcome(kind: Kind, damage: Mapping[Path, bytes], whole: Any) -> str:
    """Read damaged files back, say what came of it, and put them right."""
    before = {path: path.read_bytes() for path in kind.files}
    for path, data in damage.items():
        path.write_bytes(data)
    embedded.asset.cache_clear()
    try:
        values = kind.read()
    except cocoop.CocoopError:
        return DETECTED
    else:
        remade = any(not path.exists() or path.read_bytes() != data for path, data in damage.items())
    finally:
        for path, data in before.items():
            path.write_bytes(data)
        embedded.asset.cache_clear()
    if values == whole:
        return REBUILT if remade else SAME
    return REBUILT if values in kind.dropped else WRONG


def kinds(root: Path) -> Iterator[tuple[str, Kind]]:
    """Make files of every kind below a folder."""
    run = root / "run"
    cocoop.run(
        "base-to-new",
        datasets=["emoji/activities"],
        methods=["coop"],
        seeds=[1, 2],
        presets=["coop-quick"],
        overrides=["coop.epochs=1"],
        backbone="toy",
        folder=run,
    )
    store, clip = Store(run), cocoop.load_backbone("toy")
    records = list(store.records())
    yield "records", Kind(sorted(run.rglob("records/*/*/*.json")), lambda: _numbers(store))
    yield "predictions", Kind(sorted(run.rglob("predictions/*")), lambda: _predictions(store, records))
    learned = {record.cell.training.key: record.cell.training for record in records if record.loss}
    trainings = list(learned.values())

    def prompts() -> list[str]:
        return [_digest(store.prompt(training, clip)[0].state_dict()) for training in trainings]

    yield "prompts", Kind([store.prompt_path(training) for training in trainings], prompts)
    keys = {cell.key for plan in store.claims.requests() for cell in plan.cells}

    def requests() -> set[str]:
        return {cell.key for plan in Store(run).claims.requests() for cell in plan.cells}

    assert keys
    yield "plans", Kind(sorted(run.glob("plans/*")), requests, dropped=[set()])
    yield "format of a run folder", Kind([run / "format.json"], lambda: Store(run).folder)

    fit = Checkpoint(root / "a.unfinished", "a"), Checkpoint(root / "b.unfinished", "b")
    for number, checkpoint in enumerate(fit):
        state = Snapshot(
            {"learned.ctx": torch.full((4, 8), number + 0.5)}, TrainingLog([0.1], [1.0 + number])
        )
        checkpoint.save(lambda state=state: state)

    def fits() -> str:
        loaded = [checkpoint.load() for checkpoint in fit]
        return str([(_digest(state.tensors), state.log) for state in loaded if state])

    states = [checkpoint.load() for checkpoint in fit]
    some = [
        str([(_digest(s.tensors), s.log) for s in checkpoint if s])
        for checkpoint in ((), states[:1], states[1:])
    ]
    yield "checkpoints of fits", Kind([root / "a.unfinished", root / "b.unfinished"], fits, dropped=some)

    cache = FeatureCache(root / "entries")
    names = ("0a", "0b")
    tensors = {name: torch.randn(6, 4) for name in names}

    def entries() -> str:
        for name in names:
            if cache.get(name) is None:
                cache.put(name, tensors[name])
        return _digest({name: cache.get(name) for name in names})

    entries()
    yield "feature cache", Kind([cache.path(name) for name in names], entries)

    for number in (0, 1):
        model(number).save(root / f"model-{number}")
    saved = sorted(root.glob("model-*/*.json")), sorted(root.glob("model-*/*.safetensors"))

    def models() -> list[list[list[float]]]:
        return [cocoop.load(root / f"model-{i}").predict_proba(IMAGES, CLASSES).tolist() for i in (0, 1)]

    yield "model folders: facts", Kind(saved[0], models)
    yield "model folders: prompts", Kind(saved[1], models)

    embedded.ASSETS = Path(shutil.copytree(embedded.ASSETS, root / "assets"))
    embedded.SUMS = embedded.ASSETS / "SHA256SUMS"
    styles, tiny = embedded.ASSETS / "emoji-styles", embedded.ASSETS / "tiny-clip"
    yield "embedded splits", Kind([styles / "food.json", styles / "travel.json"], _splits)
    yield "embedded images", Kind([styles / "images.zip"], _pixels)
    weights = [tiny / "open_clip_model.safetensors", tiny / "open_clip_config.json"]
    yield "embedded weights", Kind(weights, lambda: cocoop.load_backbone("tiny-clip", "cpu").weights_digest)
    yield "list of digests", Kind([embedded.SUMS], lambda: (_splits(), _pixels()))


def _numbers(store: Store) -> str:
    records = list(store.records())
    frames = [result.frame.to_csv() for result in results(records)]
    return repr(frames) + repr([(record.cell.key, record.correct) for record in records])


def _predictions(store: Store, records: list[Any]) -> str:
    return digest(*(_digest(store.predictions(record)._asdict()) for record in records))


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    parts = [f"{name} {value.dtype} {tuple(value.shape)} {value.tolist()}" for name, value in tensors.items()]
    return digest(*sorted(parts))


def _splits() -> str:
    return digest(*(repr(open_dataset(f"emoji/{group}").splits) for group in ("food", "travel")))


def _pixels() -> str:
    data = open_dataset("emoji/food")
    return digest(*(open_image(data.root, item.path).tobytes() for item in data.items("test")[:3]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hush the progress bars of the library `datasets`."""
    import datasets

    datasets.disable_progress_bars()
    yield


def run(flips: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Damage files of every kind; return the outcomes of each kind, and what was wrong."""
    rng = random.Random(seed)
    outcomes: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    place = embedded.ASSETS
    with tempfile.TemporaryDirectory() as folder, _quiet():
        os.environ["COCOOP_CACHE"] = f"{folder}/cache"
        try:
            for name, kind in kinds(Path(folder)):
                whole = kind.read()
                counts = outcomes[name] = Counter()
                for what, damage in damages(kind, flips, rng):
                    result = outcome(kind, damage, whole)
                    counts[result] += 1
                    wrong += [f"{name}: {what}"] if result == WRONG else []
        finally:
            embedded.ASSETS, embedded.SUMS = place, place / "SHA256SUMS"
            embedded.asset.cache_clear()
    return outcomes, wrong
