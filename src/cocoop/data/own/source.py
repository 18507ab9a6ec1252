"""A person's own data as a dataset: a folder per class, a table of paths, or a dataset of the Hub."""

import os
from collections.abc import Sequence
from pathlib import Path

from cocoop.data.dataset import HUB, Dataset
from cocoop.data.decode import decode_photo
from cocoop.data.own.folder import read_folder
from cocoop.data.own.rows import Row, read_names, to_splits
from cocoop.data.own.table import READERS, read_table
from cocoop.data.storage import Root
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
    class_names = read_names(names) if names else None
    name = name if name.startswith(HUB) else os.path.normpath(Path(name).expanduser())
    root, rows, note = _read(name)
    return Dataset(name, TEMPLATE, root, to_splits(rows, name, class_names), note, decode_photo)


def _read(name: str) -> tuple[Root, list[Row], str]:
    """Return where the images are, their rows, and what a reader of results must know."""
    path = Path(name)
    if name.startswith(HUB):
        from cocoop.data.own.hub import fetch

        return *fetch(name.removeprefix(HUB)), ""
    if not path.exists():
        raise UsageError(f"there is no folder or table {name}, and no registered dataset of this name")
    if any((path / file).is_file() for file in SAVED):
        from cocoop.data.own.hub import read_saved

        return *read_saved(path), ""
    if path.is_dir():
        rows, others = read_folder(path)
        return path, rows, _note(others)
    if path.suffix.lower() not in READERS:
        raise UsageError(f"{name} is no folder and no table; tables end in {', '.join(READERS)}")
    return path.parent, read_table(path), ""


def _note(others: Sequence[str]) -> str:
    if not others:
        return ""
    first = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    return f"passed over {len(others)} file(s) that are no images: {first}"
