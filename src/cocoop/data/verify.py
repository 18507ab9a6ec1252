"""Which images of a list are missing, empty or broken: all of them, not the first."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cocoop.data.dataset import Decode, Item
from cocoop.data.decode import open_image
from cocoop.data.storage import UNREADABLE, open_archive
from cocoop.errors import CocoopError

AT_ONCE = 1000  # images handed to the threads at a time
LISTED = 20  # faults named in a message


class Fault(NamedTuple):
    """An image that cannot be used, and why."""

    path: str
    problem: str


def find_faults(
    root: Path,
    items: Iterable[Item],
    read: bool = False,
    progress: Callable[[int], None] = lambda done: None,
    decode: Decode | None = None,
) -> list[Fault]:
    """Return the images that are missing or empty, and with `read` those that are broken too.

    Args:
        root: a folder or a .zip archive.
        items: the images; each path is looked at once.
        read: decode every image as training would; else only look at files and sizes.
        progress: called with the number of images just looked at.
        decode: how the dataset reads them.
    """
    paths = list(dict.fromkeys(item.path for item in items))
    sizes = _sizes(root)
    look = partial(_read, root, sizes, decode) if read else partial(_look, root, sizes)
    faults = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), AT_ONCE):
            some = paths[start : start + AT_ONCE]
            found = zip(some, pool.map(look, some), strict=True)
            faults += [Fault(path, problem) for path, problem in found if problem]
            progress(len(some))
    return faults


def require_images(
    root: Path, items: Iterable[Item], read: bool = False, decode: Decode | None = None
) -> None:
    """Check the images of a list. Raises CocoopError naming the faulty ones."""
    if faults := find_faults(root, items, read, decode=decode):
        listed = "".join(f"\n  {fault.path}: {fault.problem}" for fault in faults[:LISTED])
        if len(faults) > LISTED:
            listed += f"\n  and {len(faults) - LISTED} more; `cocoop data check` writes all to a file"
        raise CocoopError(
            f"{len(faults)} image(s) under {root} cannot be used; the run stops here, because results "
            f"without them would compare with nothing:{listed}"
        )


@contextmanager
def all_or_nothing(root: Path, items: Sequence[Item], decode: Decode | None = None) -> Iterator[None]:
    """Where reading images fails in a block, raise CocoopError for all that cannot be read, not the first."""
    try:
        yield
    except (CocoopError, *UNREADABLE):
        require_images(root, items, read=True, decode=decode)
        raise


def _sizes(root: Path) -> dict[str, int] | None:
    """Sizes of the files in an archive; None for a folder."""
    if root.suffix != ".zip":
        return None
    return {info.filename: info.file_size for info in open_archive(root).infolist()}


def _look(root: Path, sizes: dict[str, int] | None, path: str) -> str:
    try:
        size = (root / path).stat().st_size if sizes is None else sizes[path]
    except (OSError, KeyError, ValueError):  # a name may be one that no file can have
        return "missing"
    return "" if size else "empty"


def _read(root: Path, sizes: dict[str, int] | None, decode: Decode | None, path: str) -> str:
    problem = _look(root, sizes, path)
    if problem:
        return problem
    try:
        open_image(root, path, decode)
    except CocoopError as error:
        return f"broken ({error.__cause__})"
    return ""
