"""Run folders whose records, plans, failures and predictions were written by somebody else."""

import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache, lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from audits.hostile.case import Case, command, with_digest

Change = Callable[[dict[str, Any]], Any]
FORMATS = ("csv", "html", "table", "md", "latex")
MARKUP = "<script>alert(1)</script>"


@lru_cache(maxsize=1)
def runs() -> Path:
    """Return a run folder that is as it should be; it is only copied from."""
    folder = Path(os.environ["COCOOP_CACHE"]).parent / "true" / "runs"  # where the trial's other files are
    words = ("run", "base-to-new", "--backbone", "toy", "--datasets", "emoji/activities", "--seeds", "1")
    with redirect_stdout(StringIO()):
        command(
            *words, "--set", "coop.epochs=1", "--methods", "coop", "--out", str(folder), "--track", "none"
        )(folder)
    return folder


def cases(rng: random.Random) -> Iterator[Case]:
    """Yield the cases of this kind."""
    for number, (name, change) in enumerate(_changes().items()):
        format = FORMATS[number % len(FORMATS)]
        words = ("report", "runs", "--format", format)
        yield Case(f"record-{name}", _changed("records", change), _same(*words))
        yield Case(
            f"record-{name}-with_digest",
            _changed("records", change, with_digest),
            _same(*words, numbers=False),
        )
    for number, (name, text) in enumerate(_texts(rng).items()):
        yield Case(f"record-file-{name}", _raw("records", text), command("report", "runs"), ".json")
        yield Case(f"plan-file-{name}", _raw("plans", text), _same("status", "runs"))
        if number % 3 == 0:
            yield Case(
                f"prediction-file-{name}",
                _raw("predictions", text),
                _same("report", "runs", "--format", "html"),
            )
            yield Case(f"format-file-{name}", _format(text), command("report", "runs"))
    for name, change in _plans().items():
        yield Case(f"plan-{name}", _changed("plans", change), _same("status", "runs"))
    for number in range(8):
        yield Case(f"record-flipped-{number}", _flipped("records", rng.random()), _same("report", "runs"))
        yield Case(f"plan-flipped-{number}", _flipped("plans", rng.random()), _same("status", "runs"))
        yield Case(f"prompt-flipped-{number}", _flipped("prompts", rng.random()), _again)
    yield Case("failure-of-markup", _failure("\x1b[31m" + MARKUP), command("status", "runs"))
    yield Case("failure-of-10-mb", _failure("a" * 10_000_000), command("status", "runs"))
    yield Case("record-a-folder", _folder, command("report", "runs"))
    yield Case("record-a-pipe-s-name", _named("\x1b[31mx.json"), command("report", "runs"))
    yield Case(
        "runs-a-file", lambda folder: (folder / "runs").write_text("x"), command("report", "runs"), "runs"
    )
    yield Case("runs-missing", lambda folder: None, command("status", "runs"), "runs")


def _shown(*words: str) -> Callable[[Path], str]:
    """Return what a command prints of a folder, and the page where it writes one."""

    def use(folder: Path) -> str:
        with redirect_stdout(StringIO()) as out:
            command(*words)(folder)
        page = folder / "runs" / "report.html"
        return page.read_text(encoding="utf-8") if "html" in words else out.getvalue()

    return use


@cache
def _true(*words: str) -> str:
    before = os.getcwd()
    os.chdir(runs().parent)
    try:
        return _shown(*words)(runs().parent)
    finally:
        os.chdir(before)


def _same(*words: str, numbers: bool = True) -> Callable[[Path], object]:
    """Run a command, which must refuse the folder, or say of it what it says of the true one.

    Where somebody knew how to seal what he changed, the `numbers` are his.
    """

    def use(folder: Path) -> None:
        shown = _shown(*words)(folder)
        sys.stdout.write(shown if "html" not in words else "")
        assert "<script" not in shown or "html" not in words, "markup on the page"
        assert not numbers or _numbers(shown) == _numbers(_true(*words)), "other numbers, without a word"

    return use


def _numbers(text: str) -> list[str]:
    """Return the accuracies that a person would read off: of a page those of its first table."""
    if "<html" in text:
        text = text.partition('<table class="results">')[2].partition("</table>")[0]
    return re.findall(r"\d+\.\d\d(?!\d)", text)


def _copy(folder: Path) -> None:
    shutil.copytree(runs(), folder / "runs")


def _first(folder: Path, kind: str) -> Path:
    return next(path for path in sorted((folder / "runs" / kind).rglob("*")) if path.is_file())


def _changed(
    kind: str, change: Change, write: Callable[[dict[str, Any]], str] = json.dumps
) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        _copy(folder)
        path = _first(folder, kind)
        path.write_text(write(change(json.loads(path.read_text()))))

    return make


def _raw(kind: str, text: str | bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        _copy(folder)
        _first(folder, kind).write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def _format(text: str | bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        _copy(folder)
        (folder / "runs" / "format.json").write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def _flipped(kind: str, where: float) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        _copy(folder)
        path = _first(folder, kind)
        data = bytearray(path.read_bytes())
        data[int(where * len(data))] ^= 1
        path.write_bytes(bytes(data))

    return make


def _failure(message: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        _copy(folder)
        path = _first(folder, "records")
        key = path.stem.rpartition("-")[2]
        path.unlink()
        (folder / "runs" / "failures").mkdir(exist_ok=True)
        text = json.dumps({"message": message, "traceback": message, "created": message})
        (folder / "runs" / "failures" / f"{key}.json").write_text(text)

    return make


def _folder(folder: Path) -> None:
    _copy(folder)
    path = _first(folder, "records")
    path.unlink()
    path.mkdir()


def _named(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        _copy(folder)
        path = _first(folder, "records")
        path.with_name(name).write_text("{")

    return make


def _again(folder: Path) -> None:
    """Test a trained prompt again, which was damaged since; it must be noticed."""
    record = _first(folder, "records")
    before = json.loads(record.read_text())
    record.unlink()
    words = ("run", "base-to-new", "--backbone", "toy", "--datasets", "emoji/activities", "--seeds", "1")
    command(*words, "--set", "coop.epochs=1", "--methods", "coop", "--out", "runs", "--track", "none")(folder)
    after = json.loads(_first(folder, "records").read_text())
    assert (before["correct"], before["metrics"]) == (after["correct"], after["metrics"]), "other numbers"


def _set(place: str, value: object) -> Change:
    """Return what sets a field, given by its dotted place."""

    def change(record: dict[str, Any]) -> dict[str, Any]:
        *above, last = place.split(".")
        part = record
        for name in above:
            part = part[name]
        part[last] = value
        return record

    return change


def _changes() -> dict[str, Change]:
    values: list[tuple[str, str, object]] = [
        ("correct-more", "correct", 10**6),
        ("correct-one-more", "correct", 1),
        ("correct-negative", "correct", -1),
        ("correct-text", "correct", "12"),
        ("correct-fraction", "correct", 0.5),
        ("correct-huge", "correct", 10**400),
        ("total-none", "total", 0),
        ("total-negative", "total", -5),
        ("total-huge", "total", 10**300),
        ("metrics-null", "metrics", None),
        ("metrics-names", "metrics", {MARKUP: 0.5, "=1+1": 0.5, "\x1b[31m": 1.0}),
        ("metrics-not-a-number", "metrics", {"macro_f1": float("nan")}),
        ("metrics-1000", "metrics", {f"m{number}": 0.5 for number in range(1000)}),
        ("names-markup", "class_names", [MARKUP, "\x1b[31m"]),
        ("names-none", "class_names", []),
        ("names-100000", "class_names", [f"c{number}" for number in range(100_000)]),
        ("loss-huge", "loss", [1e308] * 10),
        ("loss-not-a-number", "loss", [float("nan")]),
        ("loss-infinite", "loss", [float("inf")]),
        ("loss-100000", "loss", [1.0] * 100_000),
        ("note-markup", "note", MARKUP + "\x1b[31m|$x$\\input{x}"),
        ("note-10-mb", "note", "a" * 10_000_000),
        ("created-markup", "created", MARKUP),
        ("environment-markup", "environment", {MARKUP: MARKUP, "machine": "\x1b[31m"}),
        ("memory-infinite", "peak_memory_mb", 1e999),
        ("seconds-negative", "seconds_per_step", -1.0),
        ("version-later", "schema_version", 99),
        ("version-text", "schema_version", "2"),
        ("field-foreign", "evil", 1),
        ("protocol-path", "cell.protocol", "../../evil"),
        ("protocol-markup", "cell.protocol", MARKUP),
        ("label-markup", "cell.training.label", MARKUP),
        ("label-escape", "cell.training.label", "coop \x1b]0;owned\x07"),
        ("label-formula", "cell.training.label", "=cmd|' /C calc'!A0"),
        ("label-long", "cell.training.label", "a" * 100_000),
        ("label-empty", "cell.training.label", ""),
        ("label-override", "cell.training.label", "coop \u202egnp"),
        ("label-latex", "cell.training.label", "\\input{/etc/passwd}[x]"),
        ("dataset-path", "cell.testing.dataset", "/etc"),
        ("dataset-above", "cell.testing.dataset", "../../.."),
        ("dataset-markup", "cell.testing.dataset", MARKUP),
        ("dataset-null", "cell.testing.dataset", "a\0b"),
        ("split-markup", "cell.testing.split", MARKUP),
        ("subset-unknown", "cell.testing.subset", "evil"),
        ("seed-text", "cell.training.seed", "1; touch canary"),
        ("seed-huge", "cell.training.seed", 10**400),
        ("shots-negative", "cell.training.shots", -16),
        ("config-markup", "cell.training.config", {MARKUP: MARKUP}),
        ("config-deep", "cell.training.config", json.loads("[" * 200 + "]" * 200)),
        ("recipe-markup", "cell.training.recipe", {MARKUP: MARKUP}),
        ("backbone-markup", "cell.training.backbone", MARKUP),
        ("weights-short", "cell.training.weights", ""),
    ]
    return {name: _set(place, value) for name, place, value in values}


def _plans() -> dict[str, Change]:
    return {
        "command-escape": _set("command", "cocoop run \x1b]0;owned\x07\x1b[2J"),
        "command-shell": _set("command", "cocoop run; touch canary"),
        "command-lines": _set("command", "cocoop run\nrm -rf /"),
        "command-10-mb": _set("command", "a" * 10_000_000),
        "command-number": _set("command", 5),
        "cells-none": _set("cells", []),
        "cells-text": _set("cells", "all"),
        "cells-10000": lambda plan: plan | {"cells": plan["cells"] * 10_000},
        "field-foreign": _set("evil", 1),
    }


def _texts(rng: random.Random) -> dict[str, str | bytes]:
    return {
        "empty": "",
        "null": "null",
        "list": "[]",
        "object": "{}",
        "number": "5",
        "text": '"x"',
        "half": '{"schema_version": 2, "cell": {',
        "deep": "[" * 1_000_000,
        "deep-objects": '{"cell":' * 300_000,
        "nulls": bytes(100_000),
        "noise": rng.randbytes(10_000),
        "utf-16": '{"a": 1}'.encode("utf-16"),
        "byte-order-mark": b"\xef\xbb\xbf{}",
        "million-digits": '{"correct": ' + "9" * 1_000_000 + "}",
        "html": "<html>not found</html>",
        "pickle": b"\x80\x04cposix\nsystem\n(Vtouch canary\ntR.",
        "20-mb": '{"note": "' + "a" * 20_000_000 + '"}',
        "keys-twice": '{"correct": 1, "correct": 2}',
    }
