"""A dataset of the Hub, or one that the library `datasets` saved: its images are read from its tables."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cocoop.data.own.rows import SPLITS, Row
from cocoop.data.storage import check_size, file_stamp, read_file
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import brief
from cocoop.utils.files import digest

LABELS = ("label", "labels", "class", "category")  # of a text column; one of class labels may have any name
Place = tuple[pa.ChunkedArray, int, str]  # the column of a split, a row of it, the stamp of the table


@dataclass(frozen=True)
class Column:
    """Images in the tables of the library `datasets`, as files called SPLIT/NUMBER.SUFFIX.

    Attributes:
        name: of the dataset.
        places: where each path is; a cell of a column has the bytes of an image file, or the path of one.
    """

    name: str
    places: Mapping[str, Place]

    def read(self, path: str) -> bytes:
        """Return a file."""
        data, file = self._cell(path)
        if not data.is_valid:
            return read_file(file)
        check_size(data.as_buffer().size)
        return bytes(data.as_py())

    def size(self, path: str) -> int:
        """Return the number of bytes of a file."""
        data, file = self._cell(path)
        return int(data.as_buffer().size) if data.is_valid else file.stat().st_size

    def stamp(self, path: str) -> str:
        """Return what a file is recognised by: table and row, or path, size and modification time."""
        data, file = self._cell(path)
        if not data.is_valid:
            return file_stamp(file)
        _, row, table = self.places[path]
        return table and f"{table} {row}"

    def _cell(self, path: str) -> tuple[Any, Path]:
        column, row, _ = self.places[path]
        cell = column[row]
        if not (cell.is_valid and (cell["bytes"].is_valid or cell["path"].is_valid)):
            raise FileNotFoundError(f"row {row} holds no image")
        return cell["bytes"], Path(cell["path"].as_py() or "")

    def __str__(self) -> str:
        return self.name


def fetch(name: str) -> tuple[Column, list[Row]]:
    """Fetch NAME or NAME:CONFIG from the Hub; return where its images are, and their rows.

    Raises:
        UsageError: the extra `hub` is not installed.
        CocoopError: it cannot be had, or is not of images with labels.
    """
    dataset, _, config = name.partition(":")
    library = _library()
    try:
        return _open(library.load_dataset(dataset, config or None), name)
    except (OSError, ValueError) as error:
        raise CocoopError(f"the dataset {name} of the Hub cannot be loaded: {error}") from error


def read_saved(folder: Path) -> tuple[Column, list[Row]]:
    """Read what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; raises as `fetch` does."""
    library = _library()
    try:
        return _open(library.load_from_disk(folder), str(folder))
    except (OSError, ValueError) as error:
        raise CocoopError(f"the dataset saved in {folder} cannot be read: {error}") from error


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise UsageError("datasets of the Hub need an extra: pip install 'cocoop[hub]'") from None
    return datasets


def _open(loaded: Any, name: str) -> tuple[Column, list[Row]]:
    parts = loaded if isinstance(loaded, Mapping) else {"": loaded}
    rows = {row: place for split, part in parts.items() for row, place in _rows(split, part, name)}
    return Column(name, {row.path: place for row, place in rows.items()}), list(rows)


def _rows(split: str, part: Any, name: str) -> Iterator[tuple[Row, Place]]:
    if split and not re.fullmatch(r"\w+(\.\w+)*", split):  # exported, it becomes a folder
        raise CocoopError(f"{name} has a split called {brief(split)}; letters, digits, _ and . make a name")
    kinds = _library()
    image = next((key for key, kind in part.features.items() if isinstance(kind, kinds.Image)), None)
    classes = [key for key, kind in part.features.items() if isinstance(kind, kinds.ClassLabel)]
    label = next(iter(classes + [key for key in LABELS if key in part.features]), None)
    if image is None or label is None:
        kind = "label" if image else "image"
        raise CocoopError(f"{name} has no column of {kind}s; it has {', '.join(part.features)}")
    table = part.select_columns([image, label]).with_format("arrow")[:]  # the files stay on disk
    images, stamp = table[image], _stamp(part)
    files = pc.struct_field(images, "path").to_pylist()
    for number, (file, cls) in enumerate(zip(files, table[label].to_pylist(), strict=True)):
        if cls is None or cls == -1:  # what benchmarks do with labels they keep to themselves
            continue
        path = f"{split or 'all'}/{number:07}{Path(file or '').suffix}"
        text = part.features[label].int2str(cls) if classes else str(cls)
        yield Row(path, text, SPLITS.get(split.lower(), split)), (images, number, stamp)


def _stamp(part: Any) -> str:
    """Return what a table is recognised by, or "" where one of its files was changed just now."""
    files = [file_stamp(Path(file["filename"])) for file in part.cache_files]
    return digest(part._fingerprint, *files) if all(files) else ""
