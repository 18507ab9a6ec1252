"""A folder as it is found: its images, and the labels that it has already.

Labels are the studio's own; the first time, those that the folder tells by itself: by class folders or by a
table.
"""

import csv
import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from cocoop.data.own.folder import list_images, relative
from cocoop.data.own.layouts import read_directory
from cocoop.data.own.names import read_names
from cocoop.data.own.reading import Row
from cocoop.data.own.rows import one_spelling, same_name
from cocoop.deploy.studio.folder import HEADER, LABELS, NAMES, NONE, Folder, checked, identified
from cocoop.deploy.studio.names import Name, named
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import some


def open_folder(root: Path) -> Folder:
    """Read a folder: its images, and the labels that it has.

    Raises:
        CocoopError: it cannot be read, a link leads out of it, or a file's name is no text.
    """
    root = root.resolve()
    images, warnings = list_images(root)
    folder = Folder(root, identified(root, images), [relative(path, root) for path in images])
    folder.notes += warnings
    if not os.access(root, os.W_OK):
        folder.read_only = (
            f"{root} is read-only: labels cannot be kept; open a copy of it that you may change"
        )
    for name in (LABELS, NAMES):
        for path in root.glob(f".{name}.*.tmp") if not folder.read_only else ():
            with suppress(OSError):
                path.unlink()  # what a killed one was about to write
    rows, known = _labelled(folder), _kept_names(folder)
    for word in dict.fromkeys(row.cls for row in rows):
        with suppress(UsageError):
            known.setdefault(same_name(word), named(word))
    folder.names = tuple(dict.fromkeys(known.values()))
    place = {each: index for index, each in enumerate(folder.names)}
    at = {path: index for index, path in enumerate(folder.paths)}
    folder.labels, lost = np.full(len(images), NONE, np.int32), list[str]()
    for row in rows:
        if row.path in at and (found := known.get(same_name(row.cls))):
            folder.labels[at[row.path]] = place[found]
        else:
            lost.append(row.path)
    if lost:
        folder.keep_before = True
        folder.notes.append(
            f"{len(lost)} labelled image(s) are not in the folder, or their label cannot be a name: "
            f"{some(lost, 3)}"
        )
    return folder


def _labelled(folder: Folder) -> list[Row]:
    """Return what the folder tells of labels: the studio's table, else class folders or another table."""
    path = folder.root / LABELS
    try:
        if (rows := read_labels(path)) is not None:
            return rows
        folder.keep_before = path.exists()
        found = one_spelling(read_directory(folder.root))
    except (CocoopError, OSError) as error:
        if path.exists() or any("/" in each for each in folder.paths):
            folder.notes.append(f"no labels were read: {error}")
        return []
    folder.notes += [*found.notes, *found.warnings]
    return sorted(found.rows)


def read_labels(path: Path) -> list[Row] | None:
    """Return the rows of the studio's table; None where there is none, or it is another's.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (ValueError, csv.Error):
        return None
    if not rows or rows[0] != HEADER or any(len(row) != len(HEADER) for row in rows):
        return None
    return [Row(path, label) for path, label in rows[1:] if label]


def _kept_names(folder: Folder) -> dict[str, Name]:
    """Return the names that are kept, by what labels may call them."""
    try:
        kept = read_names(folder.root / NAMES) if (folder.root / NAMES).is_file() else {}
        names = {key: named(each[0], each[1:]) for key, each in kept.items()}
        checked(list(dict.fromkeys(names.values())))
    except CocoopError as error:
        folder.notes.append(f"the list of names was not read: {error}")
        return {}
    return {same_name(word): name for key, name in names.items() for word in (name.name, key)}
