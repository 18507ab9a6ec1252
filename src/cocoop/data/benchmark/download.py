"""One file from the network: taken up where it broke off, checked, and only then given its name."""

import hashlib
import os
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from cocoop.data.benchmark.remote import Remote
from cocoop.errors import CocoopError

ATTEMPTS = 5  # in a row that bring no new byte
LONGEST_WAIT = 60.0  # seconds between two attempts
TIMEOUT = 60.0  # seconds without a byte
PIECE = 1 << 20  # bytes
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP status of a server that may answer later
NETWORK = (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)

Told = Callable[[int], None]  # more bytes that are there, or, below 0, that have to be got again


class Unusable(CocoopError):
    """This address does not give the file; another may."""


class Stopped(CocoopError):
    """Someone asked to stop; what is there of the file is kept."""


def download(remote: Remote, path: Path, told: Told, stop: threading.Event, wait: float = 1.0) -> None:
    """Bring a file to `path`; what an earlier call left in `path`.part is taken up where the server can.

    Args:
        remote: the file.
        path: where to.
        told: called with the number of bytes that are there already, then with those just got.
        stop: set to have it end soon.
        wait: seconds before the second attempt; the next ones wait twice as long each.

    Raises:
        Unusable: the address does not give the file, or gives another one.
        Stopped: `stop` was set.
        OSError: it cannot be written.
    """
    part, attempts, restarts = path.with_name(f"{path.name}.part"), 0, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    told(_size(part))
    while True:
        before = _size(part)
        pause = wait * 2**attempts
        try:
            _go_on(remote, part, told, stop)
            break
        except NETWORK as error:
            if isinstance(error, urllib.error.HTTPError):
                pause = max(pause, _seconds(error.headers.get("Retry-After")))
                restarts += error.code == 416
                if error.code == 416 and restarts == 1:  # there is more than the file has: begin anew
                    _forget(part, told)
                elif error.code not in PASSING:
                    raise Unusable(f"{remote.url} answers {error.code} {error.reason}") from None
            attempts = 0 if _size(part) > before else attempts + 1
            if attempts == ATTEMPTS:
                raise Unusable(f"{remote.url} cannot be reached: {error}") from None
            if stop.wait(min(pause, LONGEST_WAIT)):
                raise Stopped("stopped") from None
    try:
        verify(remote, part)
    except Unusable:
        _forget(part, told)
        raise
    os.replace(part, path)
    _tag(part).unlink(missing_ok=True)


def verify(remote: Remote, path: Path) -> None:
    """Compare a file with what is known of it. Raises Unusable where it is another."""
    size = path.stat().st_size
    if remote.size and size != remote.size:
        raise Unusable(f"{remote.name} of {remote.url} has {size:,} bytes, not {remote.size:,}")
    name, expected = ("sha256", remote.sha256) if remote.sha256 else ("md5", remote.md5)
    if not expected:
        return
    hashed = hashlib.new(name, usedforsecurity=name != "md5")
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            hashed.update(piece)
    found = hashed.hexdigest()
    if not found.startswith(expected):
        raise Unusable(f"{remote.name} of {remote.url} has the {name} {found[:8]}, not {expected[:8]}")


def _go_on(remote: Remote, part: Path, told: Told, stop: threading.Event) -> None:
    """Get what is missing of a file, in one request."""
    have, validator = _kept(part, remote.url)
    if remote.size and have == remote.size:
        return
    headers = {"User-Agent": "cocoop", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with urllib.request.urlopen(
        urllib.request.Request(remote.url, headers=headers), timeout=TIMEOUT
    ) as answer:
        start, total = _extent(answer, have)
        if answer.headers.get_content_type() == "text/html":
            raise Unusable(f"{remote.url} answers with a web page instead of {remote.name}")
        if total and remote.size and total != remote.size:
            raise Unusable(f"{remote.url} has {total:,} bytes, not {remote.size:,}")
        told(start - _size(part))
        _tag(part).write_text(f"{remote.url}\n{_validator(answer)}")
        most = remote.size or total
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            while (not most or file.tell() <= most) and (piece := answer.read(PIECE)):
                file.write(piece)
                told(len(piece))
                if stop.is_set():
                    raise Stopped("stopped")
            if file.tell() < most:
                raise ConnectionError(f"it broke off after {file.tell():,} of {most:,} bytes")
            file.flush()
            os.fsync(file.fileno())


def _extent(answer: HTTPResponse, have: int) -> tuple[int, int]:
    """Return where the bytes of an answer begin in the file, and the size of the file, or 0."""
    length = int(answer.headers.get("Content-Length") or 0)
    if answer.status != 206:
        return 0, length
    found = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", answer.headers.get("Content-Range", ""))
    if not found or int(found[1]) != have:
        raise Unusable(f"{answer.url} answers with another part of the file than it was asked for")
    return have, have + length if found[2] == "*" else int(found[2])


def _kept(part: Path, url: str) -> tuple[int, str]:
    """Return how much of a file is there, and how the server names its version; 0 where that is not known."""
    with suppress(OSError, ValueError):
        from_url, validator = _tag(part).read_text().split("\n")
        if from_url == url and validator:
            return _size(part), validator
    return 0, ""


def _validator(answer: HTTPResponse) -> str:
    """Return what names a version of a file byte by byte, as If-Range takes it; empty where nothing does."""
    tag: str = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}-of")


def _forget(part: Path, told: Told) -> None:
    told(-_size(part))
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
