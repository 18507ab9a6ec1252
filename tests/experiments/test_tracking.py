"""Curves go to TensorBoard where it is installed, unless they are not wanted."""

from pathlib import Path

import pytest

import cocoop
from cocoop import CocoopError, UsageError
from cocoop.experiments.tracking import choose_tracker
from tests.experiments.test_runs import ARGUMENTS

RUN = ARGUMENTS | {"methods": ["zeroshot", "coop"], "overrides": ["coop.epochs=3"]}


def test_tensorboard_gets_the_settings_and_the_curves_of_the_record(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = cocoop.run("base-to-new", folder=tmp_path, **RUN)
    trained = next(record for record in records if record.loss)
    (folder,) = (tmp_path / "tracking").iterdir()
    assert folder.name == f"coop-{trained.cell.training.key}"
    events = EventAccumulator(str(folder)).Reload()
    assert [point.step for point in events.Scalars("loss")] == [1, 2, 3]
    assert [point.value for point in events.Scalars("loss")] == pytest.approx(trained.loss)
    assert [point.value for point in events.Scalars("lr")] == pytest.approx(trained.lr)
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_none_writes_nothing(tmp_path: Path) -> None:
    cocoop.run("base-to-new", folder=tmp_path, track="none", **RUN)
    assert not (tmp_path / "tracking").exists()


def test_what_is_tracked_by_default_and_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_tracker(None) == choose_tracker("tensorboard") == "tensorboard"
    assert choose_tracker("none") == "none"
    with pytest.raises(UsageError, match="Did you mean 'tensorboard'"):
        choose_tracker("tensorbord")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_tracker(None) == choose_tracker("none") == "none"
    with pytest.raises(CocoopError, match=r"pip install 'cocoop\[track\]'"):
        choose_tracker("tensorboard")
