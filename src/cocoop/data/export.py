"""A dataset as a folder of images a class, to look at and to start one's own from."""

import os
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path, PurePosixPath

from cocoop.data.dataset import Dataset, Item
from cocoop.data.storage import Root, read_bytes
from cocoop.errors import UsageError


def export(dataset: Dataset, out: Path, split: str | None = None) -> Counter[str]:
    """Copy the images to OUT/SPLIT/CLASS/, or one split's to OUT/CLASS/; return how many of each split.

    The folder appears when it is whole.

    Raises:
        UsageError: `out` exists, or the dataset has no such split.
        CocoopError: an image is missing.
    """
    if out.exists():
        raise UsageError(f"{out} exists; give --out a folder that does not")
    parts = {split: dataset.items(split)} if split else dataset.splits
    out.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for name, items in parts.items():
            _copy(dataset.root, items, temp if split else temp / name)
        os.chmod(temp, 0o755)
        os.replace(temp, out)
    except BaseException:
        shutil.rmtree(temp)
        raise
    return Counter({name: len(items) for name, items in parts.items()})


def _copy(root: Root, items: tuple[Item, ...], folder: Path) -> None:
    for item in items:
        path = folder / _safe(item.name) / _flat(item.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_bytes(root, item.path))


def _flat(path: str) -> str:
    """Return a file name that keeps apart images of the same name in different folders."""
    return _safe("-".join(PurePosixPath(path).parts))


def _safe(name: str) -> str:
    """Return a name that any file system takes."""
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", name).strip(". ") or "_"
