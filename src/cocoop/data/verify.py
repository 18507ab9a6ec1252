"""Which images of a list are missing, empty or broken: all of them, not the first."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from cocoop.data.dataset import Item
from cocoop.data.decode import Decode, decode_stored
from cocoop.data.storage import UNREADABLE, Root, Storage, open_storage
from cocoop.errors import CocoopError
from cocoop.utils.files import data_digest

CHUNK = 1000  # images handed to the threads at a time
THUMBNAIL = 16  # pixels an edge, of what images are compared by
SHOWN = 20  # faults named in a message


class Fault(NamedTuple):
    """An image that cannot be used, and why."""

    path: str
    problem: str


class Examined(NamedTuple):
    """An image, what is wrong with it, or "", and where it was read the SHA-256 of its file, a thumbnail."""

    path: str
    problem: str
    content: str = ""
    thumbnail: bytes = b""


def examine(
    root: Root,
    items: Iterable[Item],
    read: bool = False,
    progress: Callable[[int], None] = lambda done: None,
    decode: Decode | None = None,
    thumbnails: bool = False,
) -> Iterator[Examined]:
    """Yield for every image whether it is missing or empty, and with `read` whether it is broken.

    Args:
        root: of the dataset.
        items: the images; each path is looked at once.
        read: decode every image as training would; else only look at files and sizes.
        progress: called with the number of images just looked at.
        decode: how the dataset reads them.
        thumbnails: with `read`, give these too.
    """
    paths = list(dict.fromkeys(item.path for item in items))
    examine_path = partial(_examine, open_storage(root), read, decode or decode_stored, thumbnails)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), CHUNK):
            part = paths[start : start + CHUNK]
            yield from pool.map(examine_path, part)
            progress(len(part))


def require_images(
    root: Root, items: Iterable[Item], read: bool = False, decode: Decode | None = None
) -> None:
    """Check the images of a list. Raises CocoopError naming the faulty ones."""
    examined = examine(root, items, read, decode=decode)
    if faults := [Fault(each.path, each.problem) for each in examined if each.problem]:
        listed = "".join(f"\n  {fault.path}: {fault.problem}" for fault in faults[:SHOWN])
        if len(faults) > SHOWN:
            more = len(faults) - SHOWN
            listed += f"\n  and {more} more; `cocoop data check NAME --faults FILE` writes all to a file"
        raise CocoopError(
            f"{len(faults)} image(s) under {root} cannot be used; the run stops here, because results "
            f"without them would compare with nothing:{listed}"
        )


@contextmanager
def all_or_nothing(root: Root, items: Sequence[Item], decode: Decode | None = None) -> Iterator[None]:
    """Where reading images fails in a block, raise CocoopError for all that cannot be read, not the first."""
    try:
        yield
    except (CocoopError, *UNREADABLE):
        require_images(root, items, read=True, decode=decode)
        raise


def _examine(storage: Storage, read: bool, decode: Decode, thumbnails: bool, path: str) -> Examined:
    try:
        size = storage.size(path)
    except UNREADABLE:  # a name may be one that no file can have
        return Examined(path, "missing")
    if not size:
        return Examined(path, "empty")
    if not read:
        return Examined(path, "")
    try:
        data = storage.read(path)
        image = decode(data)
    except UNREADABLE as error:
        return Examined(path, f"broken ({error})")
    small = image.resize((THUMBNAIL, THUMBNAIL), reducing_gap=2.0).tobytes() if thumbnails else b""
    return Examined(path, "", data_digest(data), small)
