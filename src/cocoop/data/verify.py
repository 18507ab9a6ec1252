"""Which images of a list are missing, empty or broken: all of them, not the first."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

from cocoop.data.images import open_image
from cocoop.data.spec import Item
from cocoop.errors import CocoopError

SHOWN = 10  # faults named in a message


class Fault(NamedTuple):
    """An image that cannot be used, and why."""

    path: str
    problem: str


def find_faults(
    root: Path,
    items: Iterable[Item],
    decode: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Fault]:
    """Return the images that are missing or empty, and with `decode` those that are broken too.

    Args:
        root: a folder or a .zip archive.
        items: the images; each path is looked at once.
        decode: read every image as training would; else only look at files and sizes.
        progress: called with the number of images just looked at.
    """
    paths = list(dict.fromkeys(item.path for item in items))
    sizes = _sizes(root)
    look = partial(_decode if decode else _look, root, sizes)
    faults = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, problem in zip(paths, pool.map(look, paths), strict=True):
            progress(1)
            if problem:
                faults.append(Fault(path, problem))
    return faults


def require_images(root: Path, items: Iterable[Item], decode: bool = False) -> None:
    """Check the images of a list. Raises CocoopError naming the faulty ones."""
    if faults := find_faults(root, items, decode):
        raise CocoopError(describe(root, faults))


def describe(root: Path, faults: list[Fault]) -> str:
    """Return what is wrong, naming the first faults."""
    shown = "".join(f"\n  {fault.path}: {fault.problem}" for fault in faults[:SHOWN])
    rest = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return f"{len(faults)} image(s) under {root} cannot be used:{shown}{rest}"


def _sizes(root: Path) -> dict[str, int] | None:
    """Sizes of the files in an archive; None for a folder."""
    if root.suffix != ".zip":
        return None
    with ZipFile(root) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def _look(root: Path, sizes: dict[str, int] | None, path: str) -> str:
    try:
        size = (root / path).stat().st_size if sizes is None else sizes[path]
    except (OSError, KeyError):
        return "missing"
    return "" if size else "empty"


def _decode(root: Path, sizes: dict[str, int] | None, path: str) -> str:
    problem = _look(root, sizes, path)
    if problem:
        return problem
    try:
        open_image(root, path)
    except CocoopError as error:
        return f"broken ({error.__cause__})"
    return ""
