"""What the README says can be typed, in its order, on small settings."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cocoop.cli import main
from cocoop.experiments import run as experiment

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (cocoop .*)$", README, flags=re.MULTILINE)
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def small(run: Callable) -> Callable:
    """Keep what a command names, but train a small part of it."""

    def run_small(protocol: str, **named: object) -> object:
        methods = named.get("methods", ("zeroshot", "coop", "cocoop"))
        assert isinstance(methods, (tuple, list))
        quick = ("epochs=1", "batch_size=64")
        fast = [f"{method}.{setting}" for method in methods if method != "zeroshot" for setting in quick]
        few = 2 if "cross-dataset" in protocol else 1
        named |= {"datasets": list(named["datasets"])[:few], "seeds": [0], "shots": 1}  # type: ignore[call-overload]
        return run(protocol, **(named | {"overrides": [*named.get("overrides", ()), *fast]}))  # type: ignore

    return run_small


def test_commands_and_programs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(COMMANDS) >= 5
    assert len(PYTHON) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cocoop.experiments.run.run", small(experiment.run))
    monkeypatch.setattr("cocoop.estimator.shots.SEEN", 1)
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main(shlex.split(command)[1:])
        assert not stopped.value.code, command
    assert (tmp_path / "runs" / "report.html").exists()
    for program in PYTHON:
        exec(compile(program, "README.md", "exec"), {})


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^make ([a-z-]+)", README, flags=re.MULTILINE)) | {
        "check",
        "bench",
        "clean",
    }:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"
