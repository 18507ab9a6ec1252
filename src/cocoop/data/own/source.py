"""A person's own data as a dataset: a folder per class, a table of paths, or a dataset of the Hub."""

import os
from collections.abc import Sequence
from pathlib import Path

from cocoop.data.dataset import HUB, Dataset
from cocoop.data.decode import decode_photo
from cocoop.data.own.folder import read_folder
from cocoop.data.own.rows import read_names, to_splits
from cocoop.data.own.table import READERS, read_table
from cocoop.errors import UsageError

SAVED = ("dataset_dict.json", "dataset_info.json")  # what `datasets` leaves in a folder it saves to
TEMPLATE = "a photo of a {}."


def open_source(name: str, names: Path | None = None) -> Dataset:
    """Open own data.

    Args:
        name: a folder with a folder for each class, a .csv, .tsv, .jsonl or .parquet table, a folder that
            the library `datasets` saved, or "hub:NAME".
        names: a file with the class names for what the data call the classes; see `read_names`.

    Raises:
        UsageError: there is nothing under this name.
        CocoopError: the data are not as they should be; see `read_folder`, `read_table`, `to_splits`.
    """
    given = read_names(names) if names else None
    if name.startswith(HUB):
        from cocoop.data.own.hub import fetch

        column, rows = fetch(name.removeprefix(HUB))
        return Dataset(name, TEMPLATE, column, to_splits(rows, name, given), decode=decode_photo)
    path = Path(name).expanduser()
    name = os.path.normpath(path)
    if not path.exists():
        raise UsageError(f"there is no folder or table {name}, and no registered dataset of this name")
    if path.is_dir() and any((path / file).is_file() for file in SAVED):
        from cocoop.data.own.hub import read_saved

        column, rows = read_saved(path)
        return Dataset(name, TEMPLATE, column, to_splits(rows, name, given), decode=decode_photo)
    if path.is_dir():
        rows, others = read_folder(path)
        note = _passed_over(others)
        return Dataset(name, TEMPLATE, path, to_splits(rows, name, given), note, decode_photo)
    if path.suffix.lower() not in READERS:
        raise UsageError(f"{name} is no folder and no table; tables end in {', '.join(READERS)}")
    rows = read_table(path)
    return Dataset(name, TEMPLATE, path.parent, to_splits(rows, name, given), decode=decode_photo)


def _passed_over(others: Sequence[str]) -> str:
    if not others:
        return ""
    some = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    return f"passed over {len(others)} file(s) that are no images: {some}"
