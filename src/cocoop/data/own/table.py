"""A table of images: CSV, Parquet or JSON lines with the columns `path`, `label` and, if wanted, `split`."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_scalar

from cocoop.data.own.rows import SPLITS, Row
from cocoop.errors import CocoopError
from cocoop.utils.display import LONGEST, brief, reason

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig"),
    ".tsv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", sep="\t"),
    ".jsonl": lambda path: _read_json_lines(path),
    ".parquet": lambda path: _read_parquet(path),
}
COLUMNS = ("path", "label", "split")
SHOWN = 20  # columns in a message
LONGEST_PATH = 4096  # characters
MAX_ROWS = 20_000_000
MAX_BYTES = 1 << 30  # of the columns of a Parquet file, decompressed


def read_table(path: Path) -> list[Row]:
    """Return the rows of a table; paths in it are relative to its folder, and stay within it.

    Raises:
        CocoopError: it cannot be read, lacks a column or a value, names an unknown split, or an image that
            is missing or outside its folder.
    """
    try:
        frame = READERS[path.suffix.lower()](path)
    except Exception as error:  # whatever a damaged file provokes in its reader
        raise CocoopError(f"the table {path} cannot be read: {reason(error)}") from error
    if lacking := [name for name in ("path", "label") if name not in frame.columns]:
        present = ", ".join(map(repr, map(str, frame.columns[:SHOWN])))
        more = f" and {len(frame.columns) - SHOWN:,} more" if len(frame.columns) > SHOWN else ""
        raise CocoopError(
            f"the table {path} lacks the column {lacking[0]!r}; it has {present[:LONGEST] or 'none'}{more}"
        )
    columns = [frame[name] for name in COLUMNS if name in frame.columns]
    root = path.parent.resolve()
    rows = [_row(path, root, line, *values) for line, values in enumerate(zip(*columns, strict=True), 1)]
    if missing := [row.path for row in rows if not (root / row.path).is_file()]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise CocoopError(
            f"{len(missing)} images of the table {path} are missing: {', '.join(missing[:5])}{more}; paths "
            f"in it are relative to {path.parent}"
        )
    return rows


def _read_json_lines(path: Path) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    names: dict[str, None] = {}
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            row = json.loads(line) if line.strip() else {}
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no object")
            names |= dict.fromkeys(row)
            rows += [{name: row.get(name) for name in COLUMNS}] if row else []
    if not {"path", "label"} <= names.keys():
        return pd.DataFrame(columns=list(names))
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read the columns that matter. A small file may repeat a long value often, so values are kept once."""
    metadata = pq.read_metadata(path)
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if metadata.num_rows > MAX_ROWS or size > MAX_BYTES:
        raise ValueError(
            f"it has {metadata.num_rows:,} rows in {size:,} bytes, more than a list of images has"
        )
    schema = metadata.schema.to_arrow_schema()
    names = [name for name in COLUMNS if name in schema.names]
    if not {"path", "label"} <= set(names):
        return pd.DataFrame(columns=schema.names)
    texts = [name for name in names if pa.types.is_string(schema.field(name).type)]
    table = pq.read_table(path, columns=names, read_dictionary=texts)
    return pd.DataFrame({name: pd.Series(_values(table[name]), dtype=object) for name in names})


def _values(column: pa.ChunkedArray) -> list[object]:
    values: list[object] = []
    for part in column.chunks:
        if isinstance(part, pa.DictionaryArray):
            known = [*part.dictionary.to_pylist(), None]
            values += [known[-1 if place is None else place] for place in part.indices.to_pylist()]
        else:
            values += part.to_pylist()
    return values


def _row(table: Path, root: Path, line: int, path: object, label: object, split: object = "") -> Row:
    where = f"row {line} of the table {table}"
    if not all(map(is_scalar, (path, label, split))):
        raise CocoopError(f"{where} holds a list or an object; path, label and split are words")
    values = ["" if value is None or value != value else str(value).strip() for value in (path, label, split)]
    if not (values[0] and values[1]):
        raise CocoopError(f"{where} has no {'label' if values[0] else 'path'}")
    if values[2].lower() not in ("", *SPLITS):
        raise CocoopError(f"{where} has the split {brief(values[2])}; known are {', '.join(SPLITS)}")
    full = Path(os.path.normpath(root / values[0].replace("\\", "/")))
    if not _lies_in(full, root):
        raise CocoopError(f"{where} has the path {brief(values[0])}, which leaves the table's folder")
    return Row(full.relative_to(root).as_posix(), values[1], SPLITS.get(values[2].lower(), ""))


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a path, its links followed, is below a folder, and is one that a file can have."""
    try:
        return len(str(path)) <= LONGEST_PATH and path.resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # a null character, a letter that is none, a link to itself
        return False
