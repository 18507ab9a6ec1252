"""Files that are whole or absent: written beside their place, synced, then renamed into it."""

import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cocoop.errors import UsageError

DIGEST = "sha256"  # the last field of checked JSON: a digest over all others

Model = TypeVar("Model", bound=BaseModel)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically; a crash leaves the old file, or none, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temp, 0o666 & ~_umask())
        os.replace(temp, path)
    except BaseException:
        Path(temp).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def checked_json(value: BaseModel) -> str:
    """Return a value as indented JSON with a digest, so that it cannot be changed or cut off unnoticed."""
    body = value.model_dump(mode="json")
    return json.dumps(body | {DIGEST: _body_digest(body)}, indent=2, ensure_ascii=False) + "\n"


def read_checked_json(kind: type[Model], data: bytes) -> Model:
    """Read back what `checked_json` wrote.

    Raises:
        ValueError: it was changed or cut off since, or is no `kind`; the message says which, in a few words.
    """
    try:
        body = json.loads(data)
        whole = body.pop(DIGEST, None) == _body_digest(body)
    except (ValueError, AttributeError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError("was changed or cut off since it was written")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"is not of this version of cocoop ({where}: {first['msg']})") from None


def sweep(folder: Path, age: float = 3600.0) -> None:
    """Remove what killed processes were about to write: temporaries older than `age` seconds."""
    for path in folder.rglob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > age:
                path.unlink()


def default_cache() -> Path:
    """The cache folder: $COCOOP_CACHE, else `cocoop` under the user's cache folder."""
    if "COCOOP_CACHE" in os.environ:
        return Path(os.environ["COCOOP_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cocoop"


def read_lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a UTF-8 file that are not empty, as `numbered_lines` does."""
    return tuple(numbered_lines(path).values())


def numbered_lines(path: Path) -> dict[int, str]:
    """Return the lines of a UTF-8 file that are not empty, without blanks around them, by number from 1.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"the file {path} cannot be read: {error}") from error
    return {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}


def digest(*parts: bytes | str) -> str:
    """SHA-256 of the parts, each framed by its length so that no two lists collide."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()


def data_digest(data: bytes) -> str:
    """SHA-256 of bytes as they are: that of a file which holds them."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            sha.update(piece)
    return sha.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _body_digest(body: dict[str, Any]) -> str:
    return digest(json.dumps(body, sort_keys=True))
