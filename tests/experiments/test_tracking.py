"""Curves go to TensorBoard where it is installed, and to no one who is not asked for."""

from pathlib import Path

import pytest

import cocoop
from cocoop import CocoopError, UsageError
from tests.experiments.test_runs import ARGUMENTS

RUN = ARGUMENTS | {"methods": ["zeroshot", "coop"], "overrides": ["coop.epochs=3"]}


def test_tensorboard_gets_the_curves_of_the_record(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = cocoop.run("base-to-new", folder=tmp_path, **RUN)
    trained = next(record for record in records if record.loss)
    folders = list((tmp_path / "tracking").iterdir())
    assert [folder.name for folder in folders] == [f"coop-{trained.cell.training.key}"]
    curves = EventAccumulator(str(folders[0])).Reload()
    assert [point.step for point in curves.Scalars("loss")] == [1, 2, 3]
    assert [point.value for point in curves.Scalars("loss")] == pytest.approx(trained.loss)
    assert [point.value for point in curves.Scalars("lr")] == pytest.approx(trained.lr)


def test_none_writes_nothing(tmp_path: Path) -> None:
    cocoop.run("base-to-new", folder=tmp_path, track="none", **RUN)
    assert not (tmp_path / "tracking").exists()


def test_without_tensorboard_nothing_is_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    cocoop.run("base-to-new", folder=tmp_path, **RUN)
    assert not (tmp_path / "tracking").exists()


def test_unknown_and_absent_trackers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'tensorboard'"):
        cocoop.run("base-to-new", folder=tmp_path, track="tensorbord", **RUN)
    with pytest.raises(CocoopError, match="clearml is not installed"):
        cocoop.run("base-to-new", folder=tmp_path, track="clearml", **RUN)
