"""A dataset of the Hub, or one that the library `datasets` saved: its images as files, once, in the cache."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cocoop.data.images import read_file
from cocoop.data.own.rows import SPLITS, Row
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import brief
from cocoop.utils.files import (
    checked_json,
    default_cache,
    digest,
    file_digest,
    read_checked_json,
    write_bytes,
    write_text,
)

LABELS = ("label", "labels", "class", "category")  # of a text column; one of class labels may have any name
Found = tuple[Path, list[Row]]


class Index(BaseModel):
    """What was written: every image's row, and the SHA-256 of its file."""

    rows: list[Row]
    files: list[str]


def fetch(name: str) -> Found:
    """Fetch NAME or NAME:CONFIG from the Hub; return where its images are, and their rows.

    Raises:
        UsageError: the extra `hub` is not installed.
        CocoopError: it cannot be had, or is not of images with labels.
    """
    dataset, _, config = name.partition(":")
    try:
        return _as_files(_library().load_dataset(dataset, config or None), name)
    except (OSError, ValueError) as error:
        raise CocoopError(f"the dataset {name} of the Hub cannot be loaded: {error}") from error


def read_saved(folder: Path) -> Found:
    """Read what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; raises as `fetch` does."""
    try:
        return _as_files(_library().load_from_disk(folder), str(folder))
    except (OSError, ValueError) as error:
        raise CocoopError(f"the dataset saved in {folder} cannot be read: {error}") from error


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise UsageError("datasets of the Hub need an extra: pip install 'cocoop[hub]'") from None
    return datasets


def _as_files(found: Any, name: str) -> Found:
    """Write the images below the cache, unless they are there and whole; the index is written last."""
    parts = found if isinstance(found, Mapping) else {"": found}
    key = digest(*(f"{split} {part._fingerprint}" for split, part in sorted(parts.items())))
    root = default_cache() / "hub" / key[:16]
    path = root / "index.json"
    index = _read(path)
    if index is None:
        rows = [row for split, part in parts.items() for row in _write(root, split, part, name)]
        index = Index(rows=rows, files=[file_digest(root / row.path) for row in rows])
        write_text(path, checked_json(index))
    return root, index.rows


def _read(path: Path) -> Index | None:
    """Return the index where it and all images are there and whole."""
    try:
        index = read_checked_json(Index, path.read_bytes())
        found = [file_digest(path.parent / row.path) for row in index.rows]
    except (OSError, ValueError):
        return None
    return index if found == index.files else None


def _write(root: Path, split: str, part: Any, name: str) -> Iterator[Row]:
    if split and not re.fullmatch(r"\w+(\.\w+)*", split):  # it becomes a folder
        raise CocoopError(f"{name} has a split called {brief(split)}; letters, digits, _ and . make a name")
    kinds = _library()
    image = next((key for key, kind in part.features.items() if isinstance(kind, kinds.Image)), None)
    classes = [key for key, kind in part.features.items() if isinstance(kind, kinds.ClassLabel)]
    label = next(iter(classes + [key for key in LABELS if key in part.features]), None)
    if image is None or label is None:
        kind = "label" if image else "image"
        raise CocoopError(f"{name} has no column of {kind}s; it has {', '.join(part.features)}")
    part = part.select_columns([image, label]).cast_column(image, kinds.Image(decode=False))
    for number, example in enumerate(part):
        cls = example[label]
        if cls is None or cls == -1:  # what benchmarks do with labels they keep to themselves
            continue
        file = Path(split or "all") / f"{number:07}{Path(example[image]['path'] or '').suffix}"
        write_bytes(root / file, example[image]["bytes"] or read_file(Path(example[image]["path"])))
        text = part.features[label].int2str(cls) if classes else str(cls)
        yield Row(file.as_posix(), text, SPLITS.get(split.lower(), split))
