"""The command as a person uses it: output, exit codes, no tracebacks."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cocoop.cli import main
from cocoop.cli.options import parse_bytes
from cocoop.errors import UsageError

FAST = ["--backbone", "toy", "--datasets", "emoji/activities", "--shots", "1", "--seeds", "0"]
FAST += ["--set", "coop.epochs=1", "--set", "cocoop.epochs=1"]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


def test_run_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "runs")
    assert call("run", "base-to-new", *FAST, "--out", folder) == 0
    shown = capsys.readouterr().out
    assert "emoji/activities" in shown
    assert "cocoop" in shown
    assert call("run", "base-to-new", *FAST, "--out", folder) == 0
    assert "nothing to run" in capsys.readouterr().out
    assert call("report", folder, "--format", "md") == 0
    assert capsys.readouterr().out.count("| emoji/activities |") == 3
    assert call("report", folder, "--format", "csv") == 0
    assert capsys.readouterr().out.startswith("protocol,trained_on,dataset,")
    assert call("report", folder, "--format", "html") == 0
    assert "report.html" in capsys.readouterr().out
    assert (tmp_path / "runs" / "report.html").exists()


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs"
    assert call("run", "base-to-new", *FAST, "--out", str(folder), "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "6 cells, 6 to run" in shown
    assert re.search(r"lr +0\.002", shown)
    assert not folder.exists()


def test_a_template_ensemble(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "base-to-new", *FAST[:-4], "--methods", "zeroshot", "--out", str(tmp_path)]
    assert call(*arguments, "--preset", "zeroshot-select7") == 0
    assert call(*arguments) == 0
    assert call("report", str(tmp_path), "--format", "csv") == 0
    shown = capsys.readouterr().out
    assert "zeroshot (select7)" in shown
    assert "base,base,zeroshot,zeroshot," in shown


def test_more_shots_than_images_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*FAST, "--shots", "16", "--out", str(tmp_path), "--dry-run"]
    assert call("run", "base-to-new", *arguments) == 0
    assert "all of theirs are used" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("kind", ["methods", "presets", "datasets", "protocols", "backbones"])
def test_lists(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", kind) == 0
    expected = {"methods": "cocoop", "presets": "coop-", "datasets": "emoji/f", "protocols": "base-to-new"}
    assert expected.get(kind, "tiny-clip") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "base2new"], "Did you mean 'base-to-new'"),
        (["run", "[bold]base"], "'[bold]base'"),
        (["run", "base-to-new", "--datasets", "emoji/fod"], "Did you mean 'emoji/food'"),
        (["run", "base-to-new", "--methods", "cocop"], "Did you mean 'cocoop'"),
        (["run", "base-to-new", "--preset", "cocoop-papr"], "Did you mean 'cocoop-paper'"),
        (["run", "base-to-new", "--backbone", "tiny-clop"], "Did you mean 'tiny-clip'"),
        (["run", "base-to-new", "--backbone", "toy", "--shots", "0"], "shots must be at least 1"),
        (["run", "base-to-new", "--seeds", "one"], "not a list of whole numbers"),
        (["run", "base-to-new", "--methods", ","], "at least one of: methods"),
        (["run", "base-to-new", "--memory-budget", "lots"], "not a size"),
    ],
)
def test_wrong_calls_exit_2_with_one_message(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(*arguments, *(["--out", str(tmp_path / "runs")])) == 2
    message = capsys.readouterr().err
    assert words in message.replace("\n", " ")
    assert "Traceback" not in message


def test_failed_runs_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", str(tmp_path)) == 1
    assert "no finished runs" in capsys.readouterr().err.replace("\n", " ")


def test_interruption_exits_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cocoop.experiments.run.run", interrupted)
    assert call("run", "base-to-new") == 130
    assert "what was finished is kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["run"],
        ["demo"],
        ["report"],
        ["status"],
        ["list"],
        ["cache"],
        ["fit"],
        ["predict"],
        ["export"],
        ["serve"],
    ],
)
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "value"), [("512MB", 512_000_000), ("1.5 gb", 1_500_000_000), ("7", 7)])
def test_sizes(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "MB", "-1GB", "1TBs", "nan"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        parse_bytes(text)


def test_help_is_quick_to_import() -> None:
    """The command's help does not wait for torch."""
    code = "import sys, cocoop.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "--memory-budget"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
            "--memory-budget",
        ),
        (OSError(28, "No space left on device", "runs/x.json"), "No space left on device: 'runs/x.json'"),
    ],
)
def test_what_the_machine_lacks_is_said_in_words(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("cocoop.report.show.report", fails)
    with pytest.raises(SystemExit) as stopped:
        main(["report", "runs"])
    assert stopped.value.code == 1
    assert words in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert re.fullmatch(r"cocoop \d+\.\d+\S*\n", capsys.readouterr().out)
