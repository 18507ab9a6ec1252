"""The bytes of image files, from a folder or a .zip archive."""

import stat
import zipfile
from functools import lru_cache
from pathlib import Path

from cocoop.errors import CocoopError
from cocoop.utils.display import reason

MAX_BYTES = 257 << 20  # of an image file; the largest image that is decoded has 256 MiB uncompressed

UNREADABLE = (OSError, KeyError, ValueError)  # what reading or decoding raises for a file that is no image


def read_bytes(root: Path, path: str) -> bytes:
    """Return the file at `path` under `root`, a folder or a .zip archive.

    Raises:
        OSError, KeyError: there is none.
        ValueError: it is damaged, larger than an image may be, or no regular file.
        CocoopError: the archive cannot be read.
    """
    if root.suffix != ".zip":
        return read_file(root / path)
    archive = open_archive(root)
    _check_bytes(archive.getinfo(path).file_size)
    try:
        return archive.read(path)
    except Exception as error:  # whatever a damaged member provokes in a decompressor
        raise ValueError(reason(error)) from error


def read_file(path: Path) -> bytes:
    """Return a file of a folder; raises as `read_bytes` does."""
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):  # a pipe, which might never end
        raise ValueError("it is no regular file")
    _check_bytes(info.st_size)
    return path.read_bytes()


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open an archive, once for all its readers. Raises CocoopError where it cannot be read."""
    try:
        info = path.stat()
        return _open_archive(path, info.st_ino, info.st_size, info.st_mtime_ns)
    except Exception as error:  # whatever a damaged list of members provokes
        raise CocoopError(f"the archive {path} cannot be read: {reason(error)}") from error


@lru_cache(maxsize=4)
def _open_archive(path: Path, *version: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _check_bytes(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(
            f"it has {size:,} bytes, more than the {MAX_BYTES:,} of the largest image that is read"
        )
