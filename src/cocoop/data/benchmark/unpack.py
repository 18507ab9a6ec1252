"""Archives to folders: only the parts that are wanted, nothing outside the folder, and no links."""

import errno
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from cocoop.data.benchmark.download import PIECE, Unusable
from cocoop.data.splits import leaves
from cocoop.utils.display import brief, reason

EXPANSION, ALLOWANCE = 10, 1 << 30  # images hardly shrink: an archive that grows more is no archive of images
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)
ODD_NAMES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL)


@runtime_checkable
class Stream(Protocol):
    """A file of an archive, which is read once from start to end."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""


Members = Iterator[tuple[str, Stream]]


def unpack(
    archive: Path,
    places: Mapping[str, str],
    folder: Path,
    within: str = "",
    told: Callable[[int], None] = lambda count: None,
) -> None:
    """Unpack parts of a zip or tar archive, compressed or not; links and devices in it are passed over.

    Args:
        archive: the file.
        places: a folder or file in it, wherever it is, to its place in `folder`.
        folder: to unpack into.
        within: name of an archive in the archive, whose files are taken with the others.
        told: called with the bytes of every file written.

    Raises:
        Unusable: it is no archive, or damaged, or a path in it leads out of the folder, or it grows
            beyond all measure.
        OSError: it cannot be written.
    """
    left = EXPANSION * archive.stat().st_size + ALLOWANCE
    try:
        for name, file in members(archive, within):
            if (place := _place(name, places, archive)) is not None:
                left -= (written := write_member(file, folder / place, left))
                told(written)
    except DAMAGED as error:
        raise Unusable(f"{archive} is no whole archive: {reason(error)}") from error
    except OSError as error:
        if error.errno not in ODD_NAMES:
            raise
        raise Unusable(f"{archive} holds names that cannot be written: {error}") from error


def members(archive: Path, within: str = "") -> Members:
    """Yield path and content of every file in an archive, and those of a tar archive `within` it."""
    found = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_file(archive)
    for name, file in found:
        if within and name.rpartition("/")[2] == within:
            yield from tar_members(file)
        else:
            yield name, file


def tar_members(stream: Stream) -> Members:
    """Yield path and content of every file in a tar archive, which is read once from start to end."""
    with tarfile.open(fileobj=stream, mode="r|*") as tar:  # type: ignore[call-overload]  # only reads
        for member in tar:
            if member.isreg() and (file := tar.extractfile(member)):
                yield member.name, file


def write_member(file: Stream, path: Path, left: int) -> int:
    """Write a file of an archive and return its size. Raises Unusable for more than `left` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with path.open("wb") as out:
        while piece := file.read(PIECE):
            size += len(piece)
            if size > left:  # whatever the archive says of its size
                raise Unusable(
                    f"an archive unpacks to more than {EXPANSION} times its size: no set of images"
                )
            out.write(piece)
    return size


def _zip_members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as file:
                    yield info.filename, file


def _tar_file(path: Path) -> Members:
    with path.open("rb") as stream:
        yield from tar_members(stream)


def _place(name: str, places: Mapping[str, str], archive: Path) -> Path | None:
    """Return where a file of an archive belongs; None where it is not wanted."""
    if leaves(name):
        raise Unusable(f"{archive} holds the path {brief(name)}, which leads out of its folder")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or "__MACOSX" in parts or parts[-1].startswith("._"):  # what macOS adds
        return None
    for wanted, place in places.items():
        if wanted in parts:
            return Path(place, *parts[parts.index(wanted) + 1 :])
    return None
