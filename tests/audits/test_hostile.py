"""Inputs made to do harm: a part of the corpus of audits/hostile, and what counts as harm."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from audits import hostile
from audits.hostile.case import Case
from audits.hostile.worker import _judge

EVERY = 6  # of the corpus, beside which the whole takes minutes


def test_hostile_inputs_do_no_harm() -> None:
    outcome = hostile.run(0, every=EVERY)
    assert outcome.failures == ()
    assert outcome.tried == outcome.handled == outcome.refused + outcome.accepted > 150
    assert set(outcome.kinds) == set(hostile.KINDS)
    assert all(part.tried for part in outcome.kinds.values())


def test_the_trial_sees_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that crashes, hangs about, writes elsewhere or prints a traceback is counted as a failure."""

    def wrong(use: object) -> str:
        folder = tmp_path / "watched" / "case"
        shutil.rmtree(tmp_path / "watched", ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "input").write_text("x")
        return _judge(Case("x", lambda place: None, use), tmp_path / "watched", folder, "x").wrong

    assert wrong(lambda folder: None) == ""
    assert "ZeroDivisionError" in wrong(lambda folder: 1 / 0)
    assert "wrote" in wrong(lambda folder: (folder.parent / "elsewhere").write_text("x"))
    assert "wrote" in wrong(lambda folder: (folder / "input").write_text("changed"))
    assert "control codes" in wrong(lambda folder: print("\x1b[31m"))
    assert "Traceback" in wrong(lambda folder: print("Traceback", file=sys.stderr))
    monkeypatch.setattr("audits.hostile.worker.MEBIBYTES", 100)
    assert "MiB" in wrong(lambda folder: np.ones(20_000_000).sum())
    monkeypatch.setattr("audits.hostile.worker.SECONDS", 0.01)
    assert "took" in wrong(lambda folder: sum(range(3_000_000)))
