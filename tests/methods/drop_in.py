"""A file dropped into the folder of methods."""

import importlib
import sys
from pathlib import Path

import pytest

import cocoop.methods
from cocoop.methods import METHODS


def drop_in(code: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `NAME.py` beside the methods until the test is over."""
    all(map(METHODS.get, METHODS.names()))  # the others register once, when they are first imported
    (folder / f"{name}.py").write_text(code)
    monkeypatch.setattr(cocoop.methods, "__path__", [*cocoop.methods.__path__, str(folder)])
    monkeypatch.setattr(METHODS, "_objects", dict(METHODS._objects))
    monkeypatch.setattr(METHODS, "_places", None)
    monkeypatch.delitem(sys.modules, f"cocoop.methods.{name}", raising=False)
    importlib.invalidate_caches()
