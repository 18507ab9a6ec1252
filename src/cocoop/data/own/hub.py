"""A dataset of the Hub, or one that the library `datasets` saved: its images are read from its tables."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cocoop.data.own.columns import USUAL
from cocoop.data.own.multilabel import label_texts, pairs
from cocoop.data.own.reading import PLAIN, Form, Found, Reading, Row
from cocoop.data.own.rows import SPLITS
from cocoop.data.storage import check_size, file_stamp, read_file
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.utils.display import brief
from cocoop.utils.files import digest

LABELS = USUAL["label"]  # of a column of texts or numbers; one of class labels may have any name
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


def fetch(name: str, reading: Reading = PLAIN) -> tuple[Column, Found]:
    """Fetch NAME or NAME:CONFIG from the Hub; return where its images are, and their rows.

    Raises:
        UsageError: the extra `hub` is not installed, or a column was asked for that it does not have.
        CocoopError: it cannot be had, is not of labelled images, or several columns may be meant.
    """
    dataset, _, config = name.partition(":")
    library = _library()
    try:
        return _open(library.load_dataset(dataset, config or None), name, reading)
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        raise CocoopError(f"the dataset {name} of the Hub cannot be loaded: {error}") from error


def read_saved(folder: Path, reading: Reading = PLAIN) -> tuple[Column, Found]:
    """Read what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; raises as `fetch` does."""
    library = _library()
    try:
        return _open(library.load_from_disk(folder), str(folder), reading)
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        raise CocoopError(f"the dataset saved in {folder} cannot be read: {error}") from error


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise UsageError("datasets of the Hub need an extra: pip install 'cocoop[hub]'") from None
    return datasets


def _open(loaded: Any, name: str, reading: Reading = PLAIN) -> tuple[Column, Found]:
    parts = loaded if isinstance(loaded, Mapping) else {"": loaded}
    rows: list[Row] = []
    places: dict[str, Place] = {}
    forms: set[Form] = set()
    lacking: Counter[str] = Counter()
    notes: dict[str, None] = {}
    for split, part in parts.items():
        image, label = _columns(part, name, reading)
        notes |= {} if label in LABELS else {f"labels are those of the column {label}": None}
        forms.add(_form(part.features[label], reading))
        for found, place in _rows(split, part, name, image, label, lacking, reading.label_sep):
            rows += found
            places[found[0].path] = place
    if len(forms) > 1:
        raise CocoopError(f"the splits of {name} write their labels in different ways")
    said = [f"passed over {count} rows without {what}" for what, count in lacking.items()]
    return Column(name, places), Found(rows, tuple(notes), tuple(said), forms.pop())


def _columns(part: Any, name: str, reading: Reading) -> tuple[str, str]:
    """Return the columns of images and of labels; what there are several of must be asked for."""
    kinds = _library()
    images = [key for key, kind in part.features.items() if isinstance(kind, kinds.Image)]
    labels = [key for key, kind in part.features.items() if _is_class_label(kind)]
    labels += [key for key in part.features if key.lower() in LABELS and key not in (*labels, *images)]
    chosen = []
    for what, found, asked in (
        ("path", images, reading.path_column),
        ("label", labels, reading.label_column),
    ):
        if asked is not None and asked not in part.features:
            raise unknown(f"column of {name}", asked, part.features)
        if asked is None and len(found) != 1:
            kind = {"path": "image", "label": "label"}[what]
            if not found:
                raise CocoopError(f"{name} has no column of {kind}s; it has {', '.join(part.features)}")
            options = " or ".join(f"--{what}-column {key}" for key in found)
            raise CocoopError(f"{name} has {len(found)} columns of {kind}s; say which: {options}")
        chosen.append(asked or found[0])
    return chosen[0], chosen[1]


def _is_class_label(kind: Any) -> bool:
    label = _library().ClassLabel
    return isinstance(kind, label) or isinstance(getattr(kind, "feature", None), label)


def _form(kind: Any, reading: Reading) -> Form:
    """Return how the labels of a column are written."""
    if hasattr(kind, "feature"):
        return "lists"
    texts = not isinstance(kind, _library().ClassLabel) and reading.label_sep
    return "parts" if texts else "texts"


def _rows(
    split: str, part: Any, name: str, image: str, label: str, lacking: Counter[str], sep: str | None
) -> Iterator[tuple[list[Row], Place]]:
    if split and not re.fullmatch(r"\w+(\.\w+)*", split):  # exported, it becomes a folder
        raise CocoopError(f"{name} has a split called {brief(split)}; letters, digits, _ and . make a name")
    kinds = _library()
    if not isinstance(part.features[image], kinds.Image):
        raise CocoopError(f"the column {image} of {name} holds no images")
    kind = part.features[label]
    kind = getattr(kind, "feature", kind)  # of a list, what it is of
    named = kind.int2str if isinstance(kind, kinds.ClassLabel) else None
    table = part.select_columns([image, label]).with_format("arrow")[:]  # the files stay on disk
    images, stamp = table[image], _stamp(part)
    files = pc.struct_field(images, "path").to_pylist()
    there = pc.or_(pc.struct_field(images, "bytes").is_valid(), pc.struct_field(images, "path").is_valid())
    rows = zip(files, table[label].to_pylist(), there.to_pylist(), strict=True)
    for number, (file, cls, present) in enumerate(rows):
        where = f"row {number} of {name}"
        known = cls is not None and cls != -1  # what benchmarks do with labels they keep to themselves
        if known and named:
            cls = [named(each) for each in cls] if isinstance(cls, list) else named(cls)
        texts = label_texts(cls, where, None if named else sep) if known else ()
        if not present or not (texts or isinstance(cls, list) or (known and sep)):
            lacking["a label" if present else "an image"] += 1
            continue
        path = f"{split or 'all'}/{number:07}{Path(file or '').suffix}"
        yield pairs(path, texts, SPLITS.get(split.lower(), split)), (images, number, stamp)


def _stamp(part: Any) -> str:
    """Return what a table is recognised by, or "" where one of its files was changed just now."""
    files = [file_stamp(Path(file["filename"])) for file in part.cache_files]
    return digest(part._fingerprint, *files) if all(files) else ""
