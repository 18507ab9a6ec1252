"""A table of images: text, Parquet or JSON lines, with columns of paths, classes and, if wanted, splits.

Columns may have any usual name. Classes may also be columns of their own with a 1 for those an image has.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_scalar

from cocoop.data.own.columns import Columns, is_usual, lacks_label, pick, tells_labels, tells_paths
from cocoop.data.own.multilabel import label_texts, pairs
from cocoop.data.own.reading import PLAIN, Form, Found, Reading, Row
from cocoop.data.own.rows import SPLITS, check_paths
from cocoop.data.own.text import read_text_table
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import brief, reason

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".parquet")
ADDRESS = re.compile(r"(https?|ftp|s3|gs|data):", re.IGNORECASE)
LONGEST_PATH = 4096  # characters
MAX_ROWS = 20_000_000
MAX_BYTES = 1 << 30  # of the columns of a Parquet file, decompressed
MARKS = {"0": False, "0.0": False, "": False, "False": False, "1": True, "1.0": True, "True": True}


@dataclass(frozen=True)
class Table:
    """A table of which only the columns that matter are taken.

    Attributes:
        names: of all columns.
        column: gives the values of one.
        notes: what was found out about the file.
    """

    names: Sequence[str]
    column: Callable[[str], Sequence[object]]
    notes: Sequence[str] = ()


def read_table(path: Path, reading: Reading = PLAIN) -> Found:
    """Return the rows of a table; paths in it are relative to its folder, and stay within it.

    Raises:
        UsageError: a column, a separator or an encoding was asked for that it does not have.
        CocoopError: it cannot be read, lacks a column or a value, has several columns that may be meant,
            an image twice, names an unknown split, or an image that is missing or outside its folder.
    """
    try:
        table = _open(path, reading)
    except UsageError:
        raise
    except Exception as error:  # whatever a damaged file provokes in its reader
        raise CocoopError(f"the table {path} cannot be read: {reason(error)}") from error
    source = f"the table {path}"
    columns, notes = pick(table.names, reading, source, table.column)
    labels, form = _labels(table, columns, reading, path, notes)
    splits = table.column(columns.split) if columns.split else [""] * len(labels)
    root = path.parent.resolve()
    lines = enumerate(zip(table.column(columns.path), labels, splits, strict=True), 1)
    each = [_row(path, root, line, *values) for line, values in lines]
    rows = [row for image in each for row in image]
    if len(rows) > len(each):
        check_paths([image[0].path for image in each], source)
    if missing := [row.path for row in rows if not (root / row.path).is_file()]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise CocoopError(
            f"{len(missing)} images of the table {path} are missing: {', '.join(missing[:5])}{more}; paths "
            f"in it are relative to {path.parent}"
        )
    if not columns.split and (parts := _split_folders(rows)):
        rows = [row._replace(split=part) for row, part in zip(rows, parts, strict=True)]
        notes.append("splits are the folders that the paths begin with")
    return Found(rows, (*table.notes, *notes), form=form)


def tells_classes(path: Path, reading: Reading = PLAIN) -> bool:
    """Whether a file is a table of images with their classes, or boxes, and not of something else."""
    try:
        table = _open(path, reading)
        if not tells_paths(table.names, reading):
            return False
        return tells_labels(table.names, reading) or bool(_marked(table, Columns("", "", "")))
    except Exception:  # whatever a damaged file provokes in its reader
        return False


def _open(path: Path, reading: Reading) -> Table:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _open_parquet(path)
    if suffix == ".jsonl":
        return _open_json_lines(path)
    frame, notes = read_text_table(path, reading)
    return Table(list(frame.columns), lambda name: frame[name].tolist(), notes)


def _open_json_lines(path: Path) -> Table:
    rows: list[dict[str, object]] = []
    names: dict[str, None] = {}
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            row = json.loads(line) if line.strip() else {}
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no object")
            names |= dict.fromkeys(row)
            rows += [row] if row else []
    return Table(list(names), lambda name: [row.get(name) for row in rows])


def _open_parquet(path: Path) -> Table:
    """Read the columns that matter. A small file may repeat a long value often, so values are kept once."""
    metadata = pq.read_metadata(path)
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if metadata.num_rows > MAX_ROWS or size > MAX_BYTES:
        raise ValueError(
            f"it has {metadata.num_rows:,} rows in {size:,} bytes, more than a list of images has"
        )
    schema = metadata.schema.to_arrow_schema()

    def column(name: str) -> Sequence[object]:
        texts = [name] if pa.types.is_string(schema.field(name).type) else []
        return _values(pq.read_table(path, columns=[name], read_dictionary=texts)[name])

    return Table(schema.names, column)


def _values(column: pa.ChunkedArray) -> list[object]:
    values: list[object] = []
    for part in column.chunks:
        if isinstance(part, pa.DictionaryArray):
            known = [*part.dictionary.to_pylist(), None]
            values += [known[-1 if place is None else place] for place in part.indices.to_pylist()]
        else:
            values += part.to_pylist()
    return values


def _marked(table: Table, columns: Columns) -> dict[str, list[bool]]:
    """Return the columns of a table that has one for each class; none where it is no such table."""
    marked: dict[str, list[bool]] = {}
    for name in table.names:
        if name in (columns.path, columns.split) or is_usual("path", name):
            continue
        texts = ["" if value is None else str(value).strip() for value in table.column(name)]
        if not set(texts) <= MARKS.keys():
            return {}
        marked[name] = [MARKS[text] for text in texts]
    return marked if len(marked) > 1 else {}


def _labels(
    table: Table, columns: Columns, reading: Reading, path: Path, notes: list[str]
) -> tuple[list[tuple[str, ...]], Form]:
    """Return the classes of every row, and how they are written. Raises CocoopError where there are none."""
    if columns.label:
        cells = table.column(columns.label)
        lists = any(isinstance(cell, list) for cell in cells)
        sep = None if lists else reading.label_sep
        where = f"of the table {path}"
        labels = [label_texts(cell, f"row {line} {where}", sep) for line, cell in enumerate(cells, 1)]
        for line, (cell, classes) in enumerate(zip(cells, labels, strict=True), 1):
            if not classes and (cell is None or not (lists or sep)):
                raise CocoopError(f"row {line} {where} has no label")
        return labels, "lists" if lists else "parts" if sep else "texts"
    marked = _marked(table, columns)
    if not marked:
        raise lacks_label(table.names, f"the table {path}")
    notes.append(f"classes are the columns {', '.join(map(brief, list(marked)[:5]))}, marked with a 1")
    rows = zip(*marked.values(), strict=True)
    return [tuple(name for name, mark in zip(marked, row, strict=True) if mark) for row in rows], "marks"


def _row(
    table: Path, root: Path, line: int, path: object, classes: Sequence[str], split: object
) -> list[Row]:
    """Return the rows of an image, one for each of its classes."""
    where = f"row {line} of the table {table}"
    if not all(map(is_scalar, (path, split))):
        raise CocoopError(f"{where} holds a list or an object; path and split are words")
    name, part = _text(path), _text(split)
    if not name:
        raise CocoopError(f"{where} has no path")
    if part.lower() not in ("", *SPLITS):
        raise CocoopError(f"{where} has the split {brief(part)}; known are {', '.join(SPLITS)}")
    if ADDRESS.match(name):
        raise CocoopError(
            f"{where} has the web address {brief(name)} for a path; fetch the images first, e.g. with "
            "img2dataset, and give the paths of the files"
        )
    full = Path(os.path.normpath(root / name.replace("\\", "/")))
    if not _lies_in(full, root):
        raise CocoopError(f"{where} has the path {brief(name)}, which leaves the table's folder")
    return pairs(full.relative_to(root).as_posix(), classes, SPLITS.get(part.lower(), ""))


def _text(value: object) -> str:
    return "" if value is None or value != value else str(value).strip()


def _split_folders(rows: Sequence[Row]) -> list[str]:
    """Return the split of every row, where all paths begin with one's folder and some are to train on."""
    parts = [SPLITS.get(row.path.partition("/")[0].lower(), "") for row in rows]
    return parts if all(parts) and len(set(parts)) > 1 and "train" in parts else []


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a path, its links followed, is below a folder, and is one that a file can have."""
    try:
        return len(str(path)) <= LONGEST_PATH and path.resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # a null character, a letter that is none, a link to itself
        return False
