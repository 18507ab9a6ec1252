"""`cocoop data get`: terms first, then what it says and how it exits."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cocoop.cli import main
from cocoop.data.datasets import DATASETS
from tests.mirrors import Mirror, register, serving, small, stock

PETS = "oxford_pets"
Shown = pytest.CaptureFixture[str]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    DATASETS.names()
    monkeypatch.setattr(DATASETS, "_objects", dict(DATASETS._objects))
    monkeypatch.setenv("COLUMNS", "160")
    with serving() as served:
        stock(served, [PETS], tmp_path / "made")
        register({PETS: small(PETS, served.url, served.files)})
        yield served


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["data", "get", *map(str, arguments)])
    return int(stopped.value.code or 0)


def test_terms_come_first(mirror: Mirror, tmp_path: Path, capsys: Shown) -> None:
    assert call(PETS, "--root", tmp_path / "root") == 2
    shown = capsys.readouterr()
    assert "CC BY-SA 4.0" in shown.out
    assert "www.robots" in shown.out  # the rest is on the next line of a narrow terminal
    assert "--accept-terms" in shown.err
    assert not mirror.requests


def test_from_nothing_to_usable(mirror: Mirror, tmp_path: Path, capsys: Shown) -> None:
    assert call("oxford_p*", "--root", tmp_path / "root", "--accept-terms") == 0
    assert "oxford_pets: usable" in capsys.readouterr().out
    asked = len(mirror.requests)
    assert call(PETS, "--root", tmp_path / "root") == 0, "there is nothing to agree to any more"
    assert len(mirror.requests) == asked


def test_one_that_fails_is_named_with_what_to_do(mirror: Mirror, tmp_path: Path, capsys: Shown) -> None:
    assert call(PETS, "imagenet", "--root", tmp_path, "--accept-terms") == 1
    shown = capsys.readouterr()
    assert "oxford_pets: usable" in shown.out
    assert "imagenet: not usable yet" in shown.out
    assert "--archives FOLDER-WITH-THEM" in shown.out
    assert "not usable yet: imagenet" in shown.err
    (tmp_path / "oxford_pets" / "images" / "beagle_0.jpg").unlink()
    assert call(PETS, "--root", tmp_path, "--accept-terms") == 1
    assert "cannot be used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["oxford_pet", "--root", "x"], "Did you mean 'oxford_pets'"),
        (["emoji/food", "--root", "x"], "unknown dataset to download"),
        ([PETS], "--root DIR"),
    ],
)
def test_wrong_calls(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.delenv("COCOOP_DATA", raising=False)
    assert call(*arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())
