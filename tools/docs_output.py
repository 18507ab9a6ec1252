"""The output of the commands on a page, from running them.

    python tools/docs_output.py docs/tutorial.md

runs what stands after each `$` in the page's `console` blocks, in order and in a fresh folder, and writes
what it prints below it. Files that the page shows are written first, those of the package added to it.
"""

import contextlib
import importlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cocoop.cli import main

FILE = re.compile(r'```python title="src/cocoop/([\w/]+)/(\w+\.py)"\n(.*?)```', flags=re.DOTALL)
SCRIPT = re.compile(r'```python title="(\w+\.py)"\n(.*?)```', flags=re.DOTALL)
BLOCK = re.compile(r"(?<=```console\n)(.*?)(?=```)", flags=re.DOTALL)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", flags=re.MULTILINE)


def drop_in(page: str, folder: Path) -> None:
    """Add the files that a page shows to the running package, from a folder."""
    for package, name, text in FILE.findall(page):
        path = folder / package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        module = importlib.import_module(f"cocoop.{package.replace('/', '.')}")
        module.__path__ = [*module.__path__, str(path.parent)]


def write_scripts(page: str) -> None:
    """Write the scripts that a page shows into the current folder."""
    for name, text in SCRIPT.findall(page):
        Path(name).write_text(text)


def commands(page: str) -> list[tuple[str, str]]:
    """Return the commands of a page, each with the output below it."""
    return [(command[1], command[2]) for block in BLOCK.findall(page) for command in COMMAND.finditer(block)]


def filled(page: str, run: Callable[[str], str]) -> str:
    """Return the page with what `run` gives for each command below it."""
    return BLOCK.sub(
        lambda block: COMMAND.sub(lambda found: f"$ {found[1]}\n{run(found[1])}", block[0]), page
    )


def run(command: str) -> str:
    """Run a command in the current folder and return what it prints.

    `cocoop` runs in this process, anything else in a shell. A server is stopped once it is there.
    """
    words = shlex.split(command)
    if words[:2] == ["cocoop", "serve"]:
        return _served(words[1:])
    if words[0] != "cocoop":
        shell = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; {command}"
        return subprocess.run(["bash", "-c", shell], check=True, capture_output=True, text=True).stdout
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            main(words[1:])
        except SystemExit as stopped:
            if stopped.code:
                raise RuntimeError(f"{command} failed: {printed.getvalue()}") from stopped
    return "".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines())


def _served(words: list[str]) -> str:
    command = [sys.executable, "-m", "cocoop", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        printed = server.stdout.readline() + server.stdout.readline()
        server.send_signal(signal.SIGINT)
    return printed


if __name__ == "__main__":
    page = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COCOOP_CACHE"] = str(Path(folder, "cache"))
        os.chdir(folder)
        drop_in(page.read_text(), Path(folder, "files"))
        write_scripts(page.read_text())
        page.write_text(filled(page.read_text(), run))
