"""A table of images: CSV, Parquet or JSON lines with the columns `path`, `label` and, if wanted, `split`."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from cocoop.data.rows import SPLITS, Row
from cocoop.errors import CocoopError

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig"),
    ".tsv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", sep="\t"),
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False),
    ".parquet": pd.read_parquet,
}


def read_table(path: Path) -> list[Row]:
    """Return the rows of a table; paths in it are relative to its folder, and stay within it.

    Raises:
        CocoopError: it cannot be read, lacks a column or a value, names an unknown split, or an image that
            is missing or outside its folder.
    """
    try:
        frame = READERS[path.suffix.lower()](path)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise CocoopError(f"the table {path} cannot be read: {error}") from error
    if missing := [name for name in ("path", "label") if name not in frame.columns]:
        found = ", ".join(map(repr, map(str, frame.columns)))
        raise CocoopError(f"the table {path} lacks the column {missing[0]!r}; it has {found}")
    columns = [frame[name] for name in ("path", "label", "split") if name in frame.columns]
    root = path.parent.resolve()
    rows = [_row(path, root, line, *values) for line, values in enumerate(zip(*columns, strict=True), 1)]
    if gone := [row.path for row in rows if not (root / row.path).is_file()]:
        more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
        raise CocoopError(
            f"{len(gone)} images of the table {path} are missing: {', '.join(gone[:5])}{more}; paths in it "
            f"are relative to {path.parent}"
        )
    return rows


def _row(table: Path, root: Path, line: int, path: object, label: object, split: object = "") -> Row:
    values = ["" if value is None or value != value else str(value).strip() for value in (path, label, split)]
    where = f"row {line} of the table {table}"
    if not (values[0] and values[1]):
        raise CocoopError(f"{where} has no {'label' if values[0] else 'path'}")
    if values[2].lower() not in ("", *SPLITS):
        raise CocoopError(f"{where} has the split {values[2]!r}; known are {', '.join(SPLITS)}")
    full = Path(os.path.normpath(root / values[0].replace("\\", "/")))
    if not full.resolve().is_relative_to(root):
        raise CocoopError(f"{where} has the path {values[0]!r}, which leaves the table's folder")
    return Row(full.relative_to(root).as_posix(), values[1], SPLITS.get(values[2].lower(), ""))
