"""Claims, failures and plans: several processes share a run folder, and what fails is told."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import cocoop
from cocoop import CocoopError
from cocoop.cli import main
from cocoop.experiments.cell import Cell
from cocoop.experiments.claims import Claims
from cocoop.experiments.store import Store
from tests.experiments.test_runs import ARGUMENTS, finish, without_time

FAST = ARGUMENTS | {"methods": ["zeroshot", "coop"], "overrides": ["coop.epochs=1"]}
HOLD = """
import sys, time
from pathlib import Path
from cocoop.experiments.claims import Claims
claims = Claims(Path(sys.argv[1]))
cell = next(cell for plan in claims.requests() for cell in plan.cells if cell.training.method == "coop")
with claims.claim(cell.training) as note:
    note(cell, "loss 1.234", 0.5)
    print("claimed", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tmp_path_factory.mktemp("claims"), FAST)


def status(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    with pytest.raises(SystemExit):
        main(["status", str(folder), "--json"])
    return json.loads(capsys.readouterr().out)


def planned(folder: Path) -> list[Cell]:
    return [cell for plan in Claims(folder).requests() for cell in plan.cells]


def test_a_claim_excludes_and_ends(finished: Path, tmp_path: Path) -> None:
    training = planned(finished)[0].training
    with Claims(tmp_path).claim(training) as mine:
        assert mine is not None
        with Claims(tmp_path).claim(training) as theirs:
            assert theirs is None
        assert Claims(tmp_path).work(training) is not None
    assert Claims(tmp_path).work(training) is None
    with Claims(tmp_path).claim(training) as again:
        assert again is not None


def test_a_killed_holder_is_taken_over(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While another process is at a training it is waited for; when that is killed, its work is done here."""
    Claims(tmp_path).request(planned(finished), "cocoop run base-to-new --seeds '1, 2'")
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "claimed\n"
        shown = status(tmp_path, capsys)
        assert shown["counts"] == {"done": 0, "running": 2, "failed": 0, "missing": 2}
        notes = [(cell["note"], cell["by"]) for cell in shown["cells"] if cell["state"] == "running"]
        assert any(note == "loss 1.234 (50%)" and f":{holder.pid} since" in by for note, by in notes)
        waiting = ThreadPoolExecutor().submit(cocoop.run, "base-to-new", folder=tmp_path, **FAST)
        deadline = time.monotonic() + 60
        while status(tmp_path, capsys)["counts"]["done"] < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert status(tmp_path, capsys)["counts"] == {"done": 2, "running": 2, "failed": 0, "missing": 0}
        assert not waiting.done()
        holder.kill()
        assert len(waiting.result(timeout=60)) == 4
    ours, theirs = list(Store(tmp_path).records()), list(Store(finished).records())
    assert list(map(without_time, ours)) == list(map(without_time, theirs))


def test_a_failure_is_recorded_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    def diverge(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        raise CocoopError("training diverged")

    with monkeypatch.context() as patch:
        patch.setattr("cocoop.training.loop.fit", diverge)
        with pytest.raises(
            CocoopError, match=r"2 of 4 cells have no record:\n  emoji/activities coop.*diverged"
        ):
            cocoop.run("base-to-new", folder=tmp_path, **FAST)
    assert calls == 1  # both cells need the prompt, which is trained once
    shown = status(tmp_path, capsys)
    assert shown["counts"] == {"done": 2, "running": 0, "failed": 2, "missing": 0}
    assert {cell["note"] for cell in shown["cells"] if cell["state"] == "failed"} == {"training diverged"}
    failure = next((tmp_path / "failures").iterdir())
    assert "Traceback" in json.loads(failure.read_text())["traceback"]
    assert len(cocoop.run("base-to-new", folder=tmp_path, **FAST)) == 4
    assert status(tmp_path, capsys)["counts"]["failed"] == 0
    assert not list((tmp_path / "failures").iterdir())


def test_a_bug_in_one_test_leaves_the_prompt_and_the_other(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write

    def broken(store: Store, record: cocoop.experiments.record.Record, top: dict[str, torch.Tensor]) -> None:
        if record.cell.testing.subset == "new":
            raise ZeroDivisionError
        write(store, record, top)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", broken)
        with pytest.raises(CocoopError, match="ZeroDivisionError"):
            cocoop.run("base-to-new", folder=tmp_path, **FAST)
    assert {record.cell.testing.subset for record in Store(tmp_path).records()} == {"base"}
    cocoop.run("base-to-new", folder=tmp_path, **FAST)
    assert list(map(without_time, Store(tmp_path).records())) == list(
        map(without_time, Store(finished).records())
    )


@pytest.mark.parametrize("writes", range(1, 9))
def test_a_full_disk_loses_nothing(
    writes: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever write the disk is full at: one message, whole files only, and the same records afterwards."""
    fsync, done = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal done
        done += 1
        if done > writes:
            raise OSError(28, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(CocoopError, match=r"cannot write to .*No space left on device"):
            cocoop.run("base-to-new", folder=tmp_path, **FAST)
    assert not list(tmp_path.rglob("*.tmp"))
    kept = {path: path.read_bytes() for path in tmp_path.glob("records/*/*/*.json")}
    assert len(cocoop.run("base-to-new", folder=tmp_path, **FAST)) == 4
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert list(map(without_time, Store(tmp_path).records())) == list(
        map(without_time, Store(finished).records())
    )


def test_a_kill_between_prompt_and_checkpoint_leaves_nothing_over(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "runs"))
    prompt = next((folder / "prompts").glob("*.safetensors"))
    prompt.with_suffix(".unfinished").write_bytes(b"of the last epoch")
    for record in Store(folder).records():
        if record.loss:
            next(folder.glob(f"records/*/*/*{record.cell.key}.json")).unlink()
    cocoop.run("base-to-new", folder=folder, **FAST)
    assert list((folder / "prompts").iterdir()) == [prompt]


def test_status_of_nothing_and_of_everything(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["status", str(tmp_path)])
    assert stopped.value.code == 1
    assert "nothing was run" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["status", str(finished)])
    assert stopped.value.code == 0
    assert "4 in all" in capsys.readouterr().out


def test_status_names_the_command(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "cocoop run base-to-new --seeds '1, 2'"
    Claims(tmp_path).request(planned(finished), command)
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path)])
    assert f"to finish: {command}" in capsys.readouterr().out


def test_a_damaged_plan_is_as_good_as_none(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "0.json").write_text('{"command"')
    assert Claims(tmp_path).requests() == []


@pytest.mark.parametrize("command", ["cocoop list; rm -rf ~", "rm -rf ~", "cocoop 'run", "cocoop $(id)"])
def test_a_plan_from_elsewhere_offers_no_other_command(finished: Path, tmp_path: Path, command: str) -> None:
    Claims(tmp_path).request(planned(finished), "cocoop run")
    (path,) = tmp_path.glob("plans/*")
    path.write_text(path.read_text().replace('"cocoop run"', json.dumps(command)))
    assert Claims(tmp_path).requests() == []


def test_other_formats_are_refused_with_the_command(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "old"))
    Claims(folder).request(planned(finished), f"cocoop run base-to-new --out {folder} --seeds 0")
    path = sorted(folder.glob("records/*/*/*.json"))[0]
    path.write_text(path.read_text().replace('"schema_version": ', '"schema_version": 7'))
    with pytest.raises(CocoopError, match=r"was changed.*delete it and run again: cocoop run base-to-new"):
        list(Store(folder).records())
    (folder / "format.json").write_text('{"cocoop_runs": 99}')
    with pytest.raises(
        CocoopError, match=rf"format 99.*: cocoop run base-to-new --seeds 0 --out {folder}-\d$"
    ):
        Store(folder)
