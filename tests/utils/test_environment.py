"""What a record says of the machine and the software."""

import importlib.metadata

import pytest

from cocoop.utils.environment import environment


def test_a_source_tree_that_is_not_installed_has_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version
    assert environment()["torch"] == version("torch")

    def only_torch(name: str) -> str:
        if name != "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", only_torch)
    monkeypatch.setenv("PATH", "")
    known = environment()
    assert known["torch"] == version("torch")
    assert known["cocoop"] == known["numpy"] == known["commit"] == "unknown"
