"""Cells without a record: the requests that ask for them, the claims of who works at them, the failures."""

import os
import shlex
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cocoop.errors import in_words
from cocoop.experiments.cell import Cell, Training
from cocoop.utils.files import digest, write_text

LONGEST = 100_000  # characters of a command
NOTE_EVERY = 1.0  # seconds between two notes of a claim

Notify = Callable[[Cell, str, float], None]  # cell, what is going on, share of it done
Model = TypeVar("Model", bound=BaseModel)


class Failure(BaseModel):
    """Why a cell has no record.

    Attributes:
        message: of the error, for people.
        traceback: for whoever has to find the cause.
        created: when, in UTC.
    """

    model_config = ConfigDict(extra="forbid")

    message: str
    traceback: str
    created: str


class Work(BaseModel):
    """What the holder of a claim is doing; the defaults stand until its first note.

    Attributes:
        cell: key of the cell it is at.
        doing: in words.
        share: of that, from 0 to 1.
        process: host:process id.
        since: when it began, in UTC.
    """

    model_config = ConfigDict(extra="forbid")

    cell: str = ""
    doing: str = "starting"
    share: float = 0.0
    process: str = "?"
    since: str = "?"

    @property
    def words(self) -> str:
        """What is going on, for people."""
        return f"{self.doing} ({self.share:.0%})"


class Request(BaseModel):
    """The cells that one call of `cocoop run` asked for, kept in `plans/`.

    Attributes:
        command: that asks for them again; None where they were asked for from Python.
        cells: all of them, finished or not.
    """

    model_config = ConfigDict(extra="forbid")

    command: Annotated[str, Field(max_length=LONGEST)] | None
    cells: list[Cell]

    @field_validator("command")
    @classmethod
    def _is_one_command(cls, command: str | None) -> str | None:
        """A folder from elsewhere must not have people paste more than a call of cocoop."""
        words = shlex.split(command or "cocoop")
        if words[:1] != ["cocoop"] or (command and shlex.join(words) != command):
            raise ValueError("not a call of cocoop")
        return command


class Claims:
    """Requests, claims and failures of one run folder.

    A claim is an operating-system lock on a file: it ends with its process, however that ends, and it
    holds between machines where their shared file system has such locks.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def claim(self, training: Training) -> Iterator[Notify | None]:
        """Claim a training and all cells that need it; yield how to note progress, or None if it is taken."""
        path = self._claim(training)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield None
            return
        try:
            yield _Notes(path.with_suffix(".json"))
        finally:
            path.with_suffix(".json").unlink(missing_ok=True)
            lock.release()

    def work(self, training: Training) -> Work | None:
        """Return what the holder of a claim is doing; None where nobody holds it."""
        path = self._claim(training)
        if not path.exists():
            return None
        try:
            with FileLock(path).acquire(blocking=False):
                return None
        except Timeout:
            return _read(Work, path.with_suffix(".json")) or Work()

    def fail(self, cell: Cell, error: Exception) -> None:
        """Write down why a cell has no record."""
        words = "".join(traceback.format_exception(error))
        failure = Failure(
            message=in_words(error) or f"{type(error).__name__}: {error}", traceback=words, created=_now()
        )
        write_text(self._failure(cell), failure.model_dump_json(indent=2) + "\n")

    def failure(self, cell: Cell) -> Failure | None:
        """Return why a cell failed, if it did."""
        return _read(Failure, self._failure(cell))

    def clear_failure(self, cell: Cell) -> None:
        """Forget a failure, so that the cell is tried again."""
        self._failure(cell).unlink(missing_ok=True)

    def request(self, cells: Sequence[Cell], command: str | None) -> None:
        """Keep what a command asked for."""
        path = self._folder / "plans" / f"{_request_key(cells)}.json"
        write_text(path, Request(command=command, cells=list(cells)).model_dump_json(indent=2) + "\n")

    def requests(self) -> list[Request]:
        """Return all that was asked for."""
        paths = sorted((self._folder / "plans").glob("*.json"))
        read = [(path.stem, _read(Request, path)) for path in paths]
        return [request for key, request in read if request and key == _request_key(request.cells)]

    def _claim(self, training: Training) -> Path:
        return self._folder / "claims" / f"{training.key}.lock"

    def _failure(self, cell: Cell) -> Path:
        return self._folder / "failures" / f"{cell.key}.json"


class _Notes:
    """Writes what the holder of a claim is doing, now and then: for watching only, nothing rests on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since = _now()
        self._next = 0.0

    def __call__(self, cell: Cell, doing: str, share: float) -> None:
        if time.monotonic() < self._next:
            return
        process = f"{socket.gethostname()}:{os.getpid()}"
        work = Work(cell=cell.key, doing=doing, share=share, process=process, since=self._since)
        temp = self._path.with_suffix(f".{os.getpid()}")
        temp.write_text(work.model_dump_json())
        temp.replace(self._path)
        self._next = time.monotonic() + NOTE_EVERY


def _read(kind: type[Model], path: Path) -> Model | None:
    """Read a small file back; one that is absent or damaged says nothing."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _request_key(cells: Sequence[Cell]) -> str:
    return digest(*(cell.key for cell in cells))[:16]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
