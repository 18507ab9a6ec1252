"""Several processes bring the same records as one."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cocoop
from cocoop import UsageError
from cocoop.experiments.store import Store
from tests.experiments.test_runs import ARGUMENTS
from tests.run_folder import contents

FAST = ARGUMENTS | {"methods": ["zeroshot", "coop"], "overrides": ["coop.epochs=2"], "threads": 1}


def test_processes_and_caches_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of weights, records and predictions do not depend on how often or by how many it is run."""
    monkeypatch.setenv("COCOOP_CACHE", str(tmp_path / "cache"))
    cocoop.run("base-to-new", folder=tmp_path / "cold", **FAST)
    cocoop.run("base-to-new", folder=tmp_path / "warm", **FAST)
    monkeypatch.setenv("COCOOP_CACHE", str(tmp_path / "empty"))
    together = cocoop.run("base-to-new", folder=tmp_path / "two", workers=2, **FAST)
    expected = contents(tmp_path / "cold")
    assert len(expected) > len(together)
    assert contents(tmp_path / "warm") == expected
    assert contents(tmp_path / "two") == expected
    assert all("threads: 1" in record.environment["machine"] for record in together)


@pytest.mark.parametrize("workers", ["0", "-1", "many", "1.5", ""])
def test_no_number_of_workers(workers: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="number of processes"):
        cocoop.run("base-to-new", folder=tmp_path / "runs", workers=workers, **FAST)
    assert not (tmp_path / "runs").exists()


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """Kill -9 of the command leaves nobody working on in secret."""
    command = [sys.executable, "-m", "cocoop", "run", "base-to-new", "--out", str(tmp_path), "--workers", "2"]
    command += ["--datasets", "emoji/activities", "--backbone", "toy", "--set", "cocoop.epochs=1000"]
    with subprocess.Popen([*command, "--methods", "cocoop"], stdout=subprocess.DEVNULL) as parent:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("prompts/*.unfinished")) and time.monotonic() < deadline:
            time.sleep(0.1)
        parent.send_signal(signal.SIGKILL)
    trainings = {
        cell.training.key: cell.training for plan in Store(tmp_path).claims.requests() for cell in plan.cells
    }
    deadline = time.monotonic() + 30
    while any(map(Store(tmp_path).claims.work, trainings.values())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(Store(tmp_path).claims.work, trainings.values()))
