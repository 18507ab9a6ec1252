"""Where the files of images are kept: a folder, a .zip archive, or what else has these three methods."""

import os
import stat
import time
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from cocoop.errors import CocoopError
from cocoop.utils.display import reason

MAX_BYTES = 257 << 20  # of an image file; the largest image that is decoded has 256 MiB uncompressed
SETTLED = 2.0  # seconds a file or folder must have been left alone for its modification time to vouch for it

UNREADABLE = (OSError, KeyError, ValueError)  # what reading or decoding raises for a file that is no image


@runtime_checkable
class Storage(Protocol):
    """Files by their path, which has forward slashes. OSError or KeyError is raised where there is none."""

    def read(self, path: str) -> bytes:
        """Return a file. Raises ValueError where it is damaged, larger than an image may be, or a pipe."""

    def size(self, path: str) -> int:
        """Return the number of bytes of a file."""

    def stamp(self, path: str) -> str:
        """Return what a file is recognised by without being read, or "" where it was changed just now.

        Two files of one stamp have the same content.
        """


Root = Path | Storage  # a path is that of a folder or a .zip archive


def open_storage(root: Root) -> Storage:
    """Return the storage of a dataset's root. Raises CocoopError for an archive that cannot be read."""
    if not isinstance(root, Path):
        return root
    return open_archive(root) if root.suffix == ".zip" else Folder(root)


def read_bytes(root: Root, path: str) -> bytes:
    """Return the file at `path` under `root`; raises as `Storage.read` and `open_storage` do."""
    return open_storage(root).read(path)


@dataclass(frozen=True)
class Folder:
    """The files below a folder; a stamp is path, size and modification time."""

    folder: Path

    def read(self, path: str) -> bytes:
        """Return a file."""
        return read_file(self.folder / path)

    def size(self, path: str) -> int:
        """Return the number of bytes of a file."""
        return (self.folder / path).stat().st_size

    def stamp(self, path: str) -> str:
        """Return what a file is recognised by."""
        return file_stamp(self.folder / path)


@dataclass(frozen=True)
class Archive:
    """The members of a .zip archive; a stamp is the archive's, with name, size and CRC of the member."""

    file: Path
    info: os.stat_result
    members: zipfile.ZipFile

    def read(self, path: str) -> bytes:
        """Return a member."""
        check_size(self.size(path))
        try:
            return self.members.read(path)
        except Exception as error:  # whatever a damaged member provokes in a decompressor
            raise ValueError(reason(error)) from error

    def size(self, path: str) -> int:
        """Return the number of bytes of a member, uncompressed."""
        return self.members.getinfo(path).file_size

    def stamp(self, path: str) -> str:
        """Return what a member is recognised by."""
        member = self.members.getinfo(path)
        archive = _stamp(self.file, self.info)
        return archive and f"{archive} {path} {member.file_size} {member.CRC}"


def open_archive(path: Path) -> Archive:
    """Open an archive, once for all its readers. Raises CocoopError where it cannot be read."""
    try:
        info = path.stat()
        return _open_archive(path, (info.st_ino, info.st_size, info.st_mtime_ns))
    except Exception as error:  # whatever a damaged list of members provokes
        raise CocoopError(f"the archive {path} cannot be read: {reason(error)}") from error


@lru_cache(maxsize=4)
def _open_archive(path: Path, version: tuple[int, ...]) -> Archive:
    return Archive(path, path.stat(), zipfile.ZipFile(path))


def read_file(path: Path) -> bytes:
    """Return a file, as `Storage.read` does."""
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):  # a pipe, which might never end
        raise ValueError("it is no regular file")
    check_size(info.st_size)
    return path.read_bytes()


def file_stamp(path: Path) -> str:
    """Return path, size and modification time of a file, or "" where it was changed just now."""
    return _stamp(path, path.stat())


def _stamp(path: Path, info: os.stat_result) -> str:
    # file systems count time in steps, so of two changes in a moment the second may leave no trace
    settled = time.time_ns() - info.st_mtime_ns > SETTLED * 1e9
    return f"{os.path.abspath(path)} {info.st_size} {info.st_mtime_ns}" if settled else ""


def check_size(size: int) -> None:
    """Check the bytes of an image file before it is read. Raises ValueError where they are too many."""
    if size > MAX_BYTES:
        raise ValueError(
            f"it has {size:,} bytes, more than the {MAX_BYTES:,} of the largest image that is read"
        )
