"""Commands that compute nothing do not wait for torch: they never import it, nor what is built on it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest

from cocoop.backbones.pretrained import STORED, pretrained
from cocoop.methods import METHODS
from tests.report.test_published import rerun
from tests.report.test_report import store_of

COMMANDS = (
    "--version",
    "--help",
    "predict --help",
    "list",
    "list methods",
    "list datasets",
    "list backbones",
    "list protocols",
    "list presets",
    "list presets zeroshot",
    "list presets cocoop --dataset imagenet",
    "data list",
    "data list --json",
    "status RUNS",
    "status RUNS --json",
    "report RUNS",
    "report RUNS --format md",
    "report RUNS --format csv",
    "report RUNS --format latex",
    "cache",
)
CODE = """
import dataclasses, json, sys
from cocoop.cli import main

HEAVY = {"torch", "open_clip", "torchvision", "transformers", "matplotlib", "sklearn"}
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as stopped:
        assert not stopped.code, words
    assert not HEAVY & set(sys.modules), words
from cocoop.methods import METHODS, facts_of, presets_of

declared = {}
for name in METHODS.names():
    presets = {key: dataclasses.asdict(each) for key, each in presets_of(name).items()}
    declared[name] = [dataclasses.asdict(facts_of(name)), presets]
assert not HEAVY & set(sys.modules)
print(json.dumps(declared))
"""


def test_they_import_nothing_heavy_and_know_all_that_the_methods_declare(tmp_path: Path) -> None:
    store_of(tmp_path / "runs", list(rerun()))
    calls = [
        [str(tmp_path / "runs") if word == "RUNS" else word for word in line.split()] for line in COMMANDS
    ]
    command = [sys.executable, "-W", "error", "-c", CODE, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "zero-shot CLIP" in done.stdout
    assert "Columns “paper”" in done.stdout
    classes = {name: METHODS.get(name) for name in METHODS.names()}
    real = {
        name: [
            dataclasses.asdict(cls.facts),
            {key: dataclasses.asdict(each) for key, each in cls.presets.items()},
        ]
        for name, cls in classes.items()
    }
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(json.dumps(real))


def test_the_stored_names_of_weights_are_those_of_open_clip() -> None:
    names = [(architecture, tag) for architecture, tags in pretrained().items() for tag in tags]
    assert names == open_clip.list_pretrained()


def test_another_version_of_open_clip_is_asked_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = json.loads(STORED.read_text()) | {"open_clip_torch": "0.0.0", "pretrained": {}}
    (tmp_path / "names.json").write_text(json.dumps(stored))
    monkeypatch.setattr("cocoop.backbones.pretrained.STORED", tmp_path / "names.json")
    assert "ViT-B-16" in pretrained()
