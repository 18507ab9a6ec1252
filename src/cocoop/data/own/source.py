"""A person's own data as a dataset: a folder, a table of paths, or a dataset of the Hub."""

import os
from pathlib import Path

from cocoop.data.dataset import HUB, Dataset
from cocoop.data.decode import decode_photo
from cocoop.data.own import multilabel
from cocoop.data.own.layouts import read_directory
from cocoop.data.own.names import AUTO, read_names, readable, rename
from cocoop.data.own.reading import PLAIN, Found, Reading
from cocoop.data.own.rows import one_spelling, to_splits
from cocoop.data.own.table import SUFFIXES, read_table
from cocoop.data.storage import Root
from cocoop.errors import UsageError

SAVED = ("dataset_dict.json", "dataset_info.json")  # what `datasets` leaves in a folder it saves to
TEMPLATE = "a photo of a {}."


def open_source(name: str, names: Path | None = None, reading: Reading = PLAIN) -> Dataset:
    """Open own data.

    Args:
        name: a folder (see `read_directory`), a .csv, .tsv, .txt, .jsonl or .parquet table, a folder that
            the library `datasets` saved, or "hub:NAME".
        names: a file with the class names for what the data call the classes, see `read_names`; "auto" for
            those that `readable` finds.
        reading: how they are to be read, where they do not say so themselves.

    Raises:
        UsageError: there is nothing under this name.
        CocoopError: the data are not as they should be; see `read_directory`, `read_table`, `to_splits`.
    """
    multilabel.check_reading(reading)
    given = read_names(names) if names and str(names) != AUTO else None
    name = name if name.startswith(HUB) else os.path.normpath(Path(name).expanduser())
    root, found = _read(name, reading)
    found = multilabel.settle(found, reading, name)
    if names:
        classes = sorted({row.cls for row in found.rows if row.cls})
        given = given or {cls: (new,) for cls, new in readable(classes).items()}
        found = rename(found, {cls: each[0] for cls, each in given.items()}, name)
    found = one_spelling(found)
    labels: multilabel.Labels = {}
    if found.several:
        splits, labels = multilabel.to_splits(found.rows, name)
    else:
        splits = to_splits(found.rows, name)
    phrases = {each[0]: each for each in (given or {}).values() if len(each) > 1}
    note = "; ".join(found.notes)
    return Dataset(name, TEMPLATE, root, splits, note, decode_photo, found.warnings, phrases, labels)


def _read(name: str, reading: Reading) -> tuple[Root, Found]:
    """Return where the images are, and their rows."""
    path = Path(name)
    if name.startswith(HUB):
        from cocoop.data.own.hub import fetch

        return fetch(name.removeprefix(HUB), reading)
    if not path.exists():
        raise UsageError(f"there is no folder or table {name}, and no registered dataset of this name")
    if any((path / file).is_file() for file in SAVED):
        from cocoop.data.own.hub import read_saved

        return read_saved(path, reading)
    if path.is_dir():
        return path, read_directory(path, reading)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{name} is no folder and no table; tables end in {', '.join(SUFFIXES)}")
    return path.parent, read_table(path, reading)
