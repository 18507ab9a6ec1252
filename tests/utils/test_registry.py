"""One file adds an object to a registry, and a wrong name is answered with the nearest."""

import importlib
import pkgutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cocoop.data import DATASETS
from cocoop.errors import UsageError
from cocoop.experiments.protocols import PROTOCOLS
from cocoop.methods import METHODS
from cocoop.utils.registry import Registry


def test_folders_are_walked() -> None:
    assert {"zeroshot", "coop", "cocoop"} <= set(METHODS.names())
    assert "emoji/food" in DATASETS.names()
    assert "base-to-new" in PROTOCOLS.names()


@pytest.mark.parametrize(
    ("registry", "wrong", "right"),
    [
        (METHODS, "cocop", "cocoop"),
        (DATASETS, "emoji/foods", "emoji/food"),
        (PROTOCOLS, "base2new", "base-to-new"),
    ],
)
def test_did_you_mean(registry: Registry, wrong: str, right: str) -> None:
    with pytest.raises(UsageError, match=f"Did you mean .*{right}"):
        registry.get(wrong)


def test_a_name_is_taken_once() -> None:
    registry: Registry[int] = Registry("number", "cocoop.methods")
    registry.register("one")(1)
    with pytest.raises(ValueError, match="two objects"):
        registry.register("one")(2)


def test_modules_with_an_underscore_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "walked").mkdir()
    for name in ("__init__", "one", "two"):
        (tmp_path / "walked" / f"{name}.py").write_text("")
    (tmp_path / "walked" / "_parts.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry("number", "walked").names() == []
    assert {name for name in sys.modules if name.startswith("walked")} == {
        "walked",
        "walked.one",
        "walked.two",
    }


def test_threads_that_ask_at_once_see_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Registry[type] = Registry("method", "cocoop.methods")
    modules = list(pkgutil.iter_modules(importlib.import_module("cocoop.methods").__path__))
    looking = threading.Event()

    def slowly(path: object) -> Iterator[pkgutil.ModuleInfo]:
        looking.set()
        time.sleep(0.1)  # in which the other one asks
        yield from modules

    monkeypatch.setattr(pkgutil, "iter_modules", slowly)
    found: list[list[str]] = []
    first = threading.Thread(target=lambda: found.append(registry.names()))
    first.start()
    looking.wait()
    names = registry.names()
    first.join()
    assert found == [names]
    monkeypatch.undo()
    assert names == Registry("method", "cocoop.methods").names()
