"""The command: where it listens, what it refuses, and that a kill loses nothing."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console
from typer.testing import CliRunner

from cocoop import CocoopError, UsageError
from cocoop.cli.main import app
from cocoop.deploy.studio import server
from cocoop.deploy.studio.opening import open_folder
from cocoop.deploy.studio.server import LOCK, studio

QUIET = Console(quiet=True)


def ask(address: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}api/{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_kill_loses_nothing(photos: Path) -> None:
    command = [sys.executable, "-m", "cocoop", "studio", str(photos), "--port", "0", "--backbone", "toy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found
        ids = [item["id"] for item in ask(found[0], "images")["items"]]  # the backbone is being loaded
        ask(found[0], "label", {"ids": ids[:3], "name": "a thing, red"})
        ask(found[0], "label", {"ids": ids[3:5], "name": "b"})
        process.kill()
    folder = open_folder(photos)
    assert folder.ids == ids
    assert folder.texts().tolist() == ["a thing, red"] * 3 + ["b"] * 2 + [None] * 7
    assert folder.notes == []


def test_a_folder_that_is_open_in_another_studio(photos: Path) -> None:
    with FileLock(photos / LOCK), pytest.raises(CocoopError, match="open in another studio"):
        studio(photos, 0, QUIET)


def test_a_port_that_is_taken(photos: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(CocoopError, match="give another"):
        studio(photos, other.getsockname()[1], QUIET)


def test_a_template_without_a_place_for_the_name(photos: Path) -> None:
    with pytest.raises(UsageError, match="where the name stands"):
        studio(photos, 0, QUIET, template="a photo")


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, words in (("missing", "does not exist"), ("file", "is no folder")):
        with pytest.raises(UsageError, match=words):
            studio(tmp_path / name, 0, QUIET)


def test_without_a_folder_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    started: list[Any] = []
    monkeypatch.setattr("cocoop.deploy.serve.connections.run", lambda *given: started.append(given))
    result = CliRunner().invoke(app, ["studio", "--port", "0", "--backbone", "toy"])
    assert result.exit_code == 0, result.output
    assert f"studio of {tmp_path / server.DEFAULT} at http://127.0.0.1:" in result.output.replace("\n", "")
    ((made, listener, limits),) = started
    assert limits.request_bytes == made.state.limits.request_bytes == 64_000_000
    assert listener.fileno() == -1  # closed


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_looked_at(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoop.deploy.serve.connections.run", lambda *given: None)
    photos.chmod(stat.S_IRUSR | stat.S_IXUSR)
    studio(photos, 0, QUIET, backbone="toy")
    photos.chmod(stat.S_IRWXU)
    assert not (photos / LOCK).exists()


def test_nothing_of_a_read_only_folder_is_written(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoop.deploy.serve.connections.run", lambda *given: None)
    monkeypatch.setattr(os, "access", lambda *given: False)
    before = sorted(photos.iterdir())
    studio(photos, 0, QUIET, backbone="toy")
    assert sorted(photos.iterdir()) == before
