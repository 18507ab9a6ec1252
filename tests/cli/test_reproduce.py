"""`cocoop reproduce`: what is missing is said first, and Table 1 comes of one command, interrupted or not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from cocoop.cli import main
from cocoop.experiments.published_tables import ELEVEN, TABLES, published_table
from cocoop.experiments.store import Store
from tests.trees import make_imagenet, make_tree

Shown = pytest.CaptureFixture[str]
TINY = ["--backbone", "toy", "--shots", "1", "--threads", "1", "--set", "coop.epochs=1"]
TINY += ["--set", "cocoop.epochs=1", "--device", "cpu"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ELEVEN:
        if name == "imagenet":
            make_imagenet(folder, wnids=4)
        else:
            make_tree(folder, name, {"train": 8, "val": 4, "test": 12}, classes=4)
    (folder / "stanford_cars" / "cars_test").mkdir()
    return folder


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", *map(str, arguments)])
    return int(stopped.value.code or 0)


def test_table_1_with_two_interruptions(
    root: Path, tmp_path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch, interruptible: None
) -> None:
    out = tmp_path / "runs"
    arguments = ["table-1", "--root", str(root), "--out", str(out), *TINY]
    done = 0
    for stop, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        with subprocess.Popen(
            [sys.executable, "-m", "cocoop", "reproduce", *arguments], stderr=subprocess.DEVNULL
        ) as process:
            deadline = time.monotonic() + 120
            while len(list(out.glob("records/*/*/*.json"))) < done + 20 and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(stop)
        assert process.returncode == code
        finished = len(list(out.glob("records/*/*/*.json")))
        assert done + 20 <= finished < 154
        done = finished
    monkeypatch.setenv("COLUMNS", "120")
    capsys.readouterr()
    assert call(*arguments) == 0
    shown = capsys.readouterr().out
    records = list(Store(out).records())
    assert len(records) == 11 * 2 * (1 + 2 * 3)
    assert len({record.cell.training.key for record in records if record.cell.training.learns}) == 66
    assert "cells to run, about" in shown
    assert "average of 11" in shown
    assert "the backbone is toy" in shown
    assert "1 shots, not 16" in shown
    frame = pd.read_csv(out / "against-base-to-new.csv")
    assert len(frame) == (11 + 1) * 3 * 3
    average = frame[frame["dataset"].eq("average") & frame["value"].eq("H")].set_index("method")
    assert average["theirs"].round(2).tolist() == [71.7, 71.66, 75.83]
    assert frame["difference"].round(6).equals((frame["ours"] - frame["theirs"]).round(6))
    assert frame["spread"].isna().equals(frame["method"].eq("zeroshot"))


def test_a_quick_look_tests_on_a_sample(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cocoop.experiments import published_tables

    monkeypatch.setattr(published_tables, "QUICK", 2)
    monkeypatch.chdir(tmp_path)
    assert call("table-1", "--root", root, "--datasets", "dtd", "--seeds", "1", "--quick", *TINY) == 0
    records = list(Store(tmp_path / "reproduce-table-1-quick").records())
    assert {record.total for record in records} == {2}
    assert {record.cell.testing.sample for record in records} == {2}


def test_other_tables(root: Path, tmp_path: Path, capsys: Shown) -> None:
    few = ["--root", root, "--seeds", "1", *TINY]
    assert call("table-2", "--datasets", "imagenet,dtd", *few, "--out", tmp_path / "two") == 0
    assert "imagenet → dtd" in capsys.readouterr().out
    assert call("table-4", "--datasets", "dtd", *few, "--out", tmp_path / "four") == 0
    assert "no published values" in capsys.readouterr().out
    assert (
        call("kgcoop", "--datasets", "dtd", *few[:-6], "--set", "kgcoop.epochs=1", "--out", tmp_path / "kg")
        == 0
    )


def test_what_is_missing_is_said_with_its_size(root: Path, tmp_path: Path, capsys: Shown) -> None:
    make_tree(tmp_path, "dtd", classes=4)
    assert call("table-1", "--root", tmp_path) == 1
    shown = capsys.readouterr().err
    assert "oxford_pets: 0.79 GB" in shown
    assert "imagenet: 155 GB, by hand" in shown
    assert "dtd: " not in shown
    assert "cocoop data get imagenet caltech101 oxford_pets" in shown
    assert call("table-3", "--root", root) == 1
    assert "imagenet_sketch: 7.59 GB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table-9"], "Did you mean 'table-"),
        (["table-1", "--datasets", "emoji/food"], "table-1 has no emoji/food"),
        (["table-1"], "--root DIR"),
    ],
)
def test_wrong_calls(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.delenv("COCOOP_DATA", raising=False)
    assert call(*arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_every_table_of_the_paper_has_a_protocol() -> None:
    assert {table.protocol for table in TABLES.values()} == {
        "base-to-new",
        "cross-dataset",
        "domain-generalization",
        "class-incremental",
        "ablation",
    }
    assert published_table("table-3").needed == (
        "imagenet",
        "imagenetv2",
        "imagenet_sketch",
        "imagenet_a",
        "imagenet_r",
    )
