"""One case in a process of its own: what it writes, starts, says and costs."""

import contextlib
import gc
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import torch

from audits.hostile.case import CANARY, MODEL, Case, Refused, load_backbone_once, write_model
from audits.hostile.run import MEBIBYTES, SECONDS, Result
from benchmarks.measure import peak_memory, reset_peak
from cocoop import CocoopError

WRITTEN = ("out", "m", "runs")  # below a case's folder, by the commands of the trial
MOST = 8 << 30  # bytes that a case may ask for, so that the machine lives
LONGEST = 4_000  # characters of a message
OWN_PROGRAMS = ("git", "uname")  # the environment in a record
GARBAGE = re.compile(r"Traceback|Warning:|Exception ignored|out of memory|allocate memory|TIFF[A-Z]\w+:")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_seen: list[str] = []  # what the audit hook noticed during a case


def prepare(folder: Path) -> None:
    """Make a process ready for cases: nothing of the user's, no network, a watch on what is started."""
    os.environ |= {
        "COCOOP_CACHE": str(folder / "cache"),
        "HOME": str(folder / "home"),
        "COLUMNS": "200",
    }
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as the command does
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST, used + MOST))
    load_backbone_once()
    write_model(folder / MODEL)
    sys.addaudithook(_notice)
    gc.freeze()  # what is there by now is not looked through again


def attempt(case: Case, root: Path, name: str) -> Result:
    """Try a case in a folder deep below `root`, whose files are watched."""
    folder = root / "watched" / "a" / "b" / "case"
    folder.mkdir(parents=True)
    shutil.copytree(root / MODEL, folder / MODEL)
    os.chdir(folder)
    try:
        with _captured():
            case.make(folder)
        return _judge(case, root / "watched", folder, name)
    finally:
        os.chdir(root)
        subprocess.run(["rm", "-rf", str(root / "watched")], check=True)  # deeper than Python's own recurses


def _judge(case: Case, watched: Path, folder: Path, name: str) -> Result:
    before, wrong, refused, message = _tree(watched, folder), "", False, ""
    _seen.clear()
    gc.collect()
    held = reset_peak()
    start = time.process_time()
    with _captured() as said:
        try:
            found = case.use(folder)
            wrong = "" if case.check(found) else "the result is not as it should be"
        except CocoopError as error:
            refused, message = True, str(error)
        except Refused:
            refused = True
        except BaseException as error:
            wrong = f"{type(error).__name__}: {str(error)[:300]}"
    seconds, mebibytes = time.process_time() - start, max(0, peak_memory() - held) / (1 << 20)
    message += said[1]
    after = _tree(watched, folder)
    changed = sorted(path for path in before.keys() | after if before.get(path) != after.get(path))
    problems = {
        f"wrote {changed[:3]}": bool(changed) or (folder / CANARY).exists(),
        f"did {_seen[:3]}": bool(_seen),
        "printed control codes": bool(CONTROL.search(said[0] + said[1])),
        f"printed {message[-300:]!r}": bool(GARBAGE.search(message + said[0])),
        f"said {len(message):,} characters": len(message) > LONGEST,
        f"did not name {case.says!r} but said {message[:200]!r}": refused and case.says not in message,
        f"took {seconds:.1f} s": seconds > SECONDS,
        f"took {mebibytes:.0f} MiB": mebibytes > MEBIBYTES,
    }
    wrong = "; ".join([wrong] * bool(wrong) + [words for words, holds in problems.items() if holds])
    return Result(name, refused, seconds, mebibytes, wrong, message[:LONGEST])


def _tree(watched: Path, folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file but those that the trial's own commands write."""
    found: dict[str, tuple[int, int]] = {}
    own = [str(folder / name) for name in WRITTEN]
    open_ = [str(watched)]
    while open_:
        for entry in os.scandir(open_.pop()):
            if entry.is_dir(follow_symlinks=False):
                open_ += [entry.path] * (entry.path not in own)
                found[entry.path] = (0, 0)
            else:
                info = entry.stat(follow_symlinks=False)
                found[entry.path] = (info.st_size, info.st_mtime_ns)
    return {path: facts for path, facts in found.items() if path not in own}


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    """Catch what is printed, also by libraries written in C; the texts are there afterwards."""
    said: list[str] = []
    kept = os.dup(1), os.dup(2)
    streams = sys.stdout, sys.stderr
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        try:
            yield said
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            sys.stdout, sys.stderr = streams
            for place, handle in enumerate(kept, 1):
                os.dup2(handle, place)
                os.close(handle)
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode("utf-8", "replace"))


def _notice(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what a case has no business with: programs, connections, and writing elsewhere."""
    if event in ("os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn", "socket.connect"):
        _seen.append(event)
    elif event == "subprocess.Popen" and Path(str(arguments[0])).name not in OWN_PROGRAMS:
        _seen.append(f"{event} {arguments[0]}")
    elif (
        event == "open"
        and isinstance(arguments[2], int)
        and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        path = os.path.abspath(os.fsdecode(arguments[0])) if isinstance(arguments[0], str | bytes) else ""
        if path and not path.startswith((tempfile.gettempdir(), "/dev/null", "/proc/self")):
            _seen.append(f"open {path} for writing")
