"""What a folder is: class folders, or images whose classes a table or the files' names tell.

Where two readings differ, an error shows both. What detection tools export is named and refused, as its
images have boxes and not one class each.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cocoop.data.decode import is_image_name
from cocoop.data.own.boxes import SAMPLE, boxes_of
from cocoop.data.own.folder import entries, folders_in, look_through, passed_over, read_folder, relative
from cocoop.data.own.multilabel import label_texts, pairs
from cocoop.data.own.reading import FILE_NAMES, FOLDERS, PLAIN, Form, Found, Reading, Row
from cocoop.data.own.rows import SPLITS
from cocoop.data.own.table import SUFFIXES as TABLES
from cocoop.data.own.table import read_table, tells_classes
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import brief, reason

# tables that tools write beside images; others are taken where they are the only one
KNOWN = ("_classes.csv", "metadata.csv", "metadata.jsonl", "metadata.parquet", "labels.json")
LISTS = ("classes.txt", "labels.txt", "names.txt", "classnames.txt", "_classes.txt", "class_names.txt")
NUMBERED = re.compile(r"[\s._-]*\(?\d+\)?$")  # what follows the class in a file's name


def read_directory(root: Path, reading: Reading = PLAIN) -> Found:
    """Return the images of a folder with their classes, from wherever these are told.

    Raises:
        UsageError: the table that was asked for is not there.
        CocoopError: it is an export for detection, its classes are not told or are told differently by
            folders and a table, or see `read_folder` and `read_table`.
    """
    asked, top = reading.labels_from, look_through(root)
    if asked == FOLDERS:
        return read_folder(root)
    if asked == FILE_NAMES:
        return _by_file_names(root, top)
    if asked is not None:
        if not (path := top / asked).is_file() and not (path := Path(asked)).is_file():
            raise UsageError(
                f"there is no table {asked} in {top}; --labels-from takes folders, names or a table"
            )
        return _below(root, path.parent, _read(path, reading))
    if tool := boxes_of(top):
        raise CocoopError(
            f"{root} is an export for detection ({tool}): its images have boxes, not one class each. Cut the "
            "boxes out into one folder for each class, see 'Boxes' in docs/own-data.md"
        )
    parts = [path for path in folders_in(top, root.resolve()) if path.name.lower() in SPLITS]
    found, table = _by_tables(root, top, parts, reading)
    classes = _has_classes(top, parts)
    if found and not classes:
        return found
    if not classes and any(_loose(part) for part in parts):
        raise CocoopError(_two_readings(root, parts))
    folders = read_folder(root)
    if found is None:
        return _hinted(top, folders)
    return _agreed(root, folders, found, table) if len({row.cls for row in folders.rows}) > 1 else found


def _by_tables(root: Path, top: Path, parts: Sequence[Path], reading: Reading) -> tuple[Found | None, str]:
    """Return what the tables of a folder, or of the folders of its splits, tell; None without any."""
    tables = {part: table for part in parts if (table := _table(part, reading))}
    if not tables:
        table = _table(top, reading)
        return (_below(root, top, _read(table, reading)) if table else None), table.name if table else ""
    rows: list[Row] = []
    notes: dict[str, None] = {}
    warnings: list[str] = []
    forms: set[Form] = set()
    for part, path in tables.items():
        found = _below(root, part, _read(path, reading))
        rows += [row._replace(split=SPLITS[part.name.lower()]) for row in found.rows]
        notes |= dict.fromkeys(found.notes)
        warnings += found.warnings
        forms.add(found.form)
    for part in parts:
        if part not in tables and (loose := _loose(part)):
            warnings.append(f"passed over {len(loose):,} image(s) of {part.name}, which has no table")
    names = ", ".join(relative(path, root) for path in tables.values())
    if len(forms) > 1:
        raise CocoopError(f"the tables {names} of {root} write their classes in different ways; use one")
    return Found(rows, tuple(notes), tuple(warnings), forms.pop()), names


def _table(folder: Path, reading: Reading) -> Path | None:
    """Return the table in a folder that tells the classes: of a usual name, or the only one."""
    inside = [path for path in entries(folder) if path.is_file()]
    known = [path for name in KNOWN for path in inside if path.name == name and _tells(path, reading)]
    tables = [path for path in inside if path.suffix.lower() in TABLES and path not in known]
    others = [path for path in tables if tells_classes(path, reading)]
    if known:
        return known[0]
    if len(others) > 1:
        names = " or ".join(f"--labels-from {path.name}" for path in others)
        raise CocoopError(f"{folder} has {len(others)} tables; say which one has the classes: {names}")
    return others[0] if others else None


def _tells(path: Path, reading: Reading) -> bool:
    if path.suffix != ".json":
        return tells_classes(path, reading)
    with path.open("rb") as file:
        return file.read(SAMPLE).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def _read(path: Path, reading: Reading) -> Found:
    if path.suffix.lower() == ".json":
        return _read_labels_json(path)
    found = read_table(path, reading)
    return replace(found, notes=(f"classes are from {path.name}", *found.notes))


def _read_labels_json(path: Path) -> Found:
    """Read FiftyOne's labels.json, or an object of files and classes; a file may lack its ending.

    Raises:
        CocoopError: it is no such file, or an image is missing.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        labels = content.get("labels", content)
        classes = content.get("classes") if "labels" in content else None
        if not isinstance(labels, dict):
            raise ValueError("its labels are no object")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise CocoopError(f"the table {path} cannot be read: {reason(error)}") from error
    by_stem: dict[str, list[Path]] = {}
    for folder in (path.parent, *(each for each in entries(path.parent) if each.is_dir())):
        for file in entries(folder):
            if is_image_name(file.name):
                by_stem.setdefault(file.stem, []).append(file)
    rows: list[Row] = []
    missing, unlabelled = [], 0
    for name, label in labels.items():
        label = _plain(label)
        if label is None:
            unlabelled += 1
            continue
        where = f"{brief(name)} in {path}"
        names = label_texts(label, where)
        if not names and not isinstance(label, list):
            raise CocoopError(f"{where} has no label")
        if classes is not None and not all(isinstance(each, str) for each in _listed(label)):
            names = tuple(_numbered(text, classes, name, path) for text in names)
        stem = Path(name).stem if is_image_name(name) else Path(name).name
        files = by_stem.get(stem, [])
        missing += [name] if len(files) != 1 else []
        rows += [row for file in files[:1] for row in pairs(relative(file, path.parent), names, "")]
    if missing:
        raise CocoopError(
            f"{len(missing)} images of {path} are missing, or there are several of one name: {missing[0]}"
        )
    warnings = (f"passed over {unlabelled} image(s) that {path.name} has no label for",) if unlabelled else ()
    form: Form = "lists" if any(isinstance(_plain(label), list) for label in labels.values()) else "texts"
    return Found(rows, (f"classes are from {path.name}",), warnings, form)


def _plain(label: object) -> object:
    """Return a label of FiftyOne without the object around it."""
    if isinstance(label, list):
        return [_plain(each) for each in label]
    return label.get("label") if isinstance(label, dict) else label


def _listed(label: object) -> list[object]:
    return label if isinstance(label, list) else [label]


def _numbered(text: str, classes: Sequence[object], name: str, path: Path) -> str:
    if not (text.isdigit() and int(text) < len(classes)):
        raise CocoopError(f"{path} has the label {text} for {brief(name)}, but {len(classes)} classes")
    return str(classes[int(text)])


def _below(root: Path, folder: Path, found: Found) -> Found:
    """Return rows of a folder as rows of the root above it."""
    prefix = relative(folder, root) if folder.resolve().is_relative_to(root.resolve()) else ""
    if folder.resolve() == root.resolve() or not prefix:
        return found
    rows = [row._replace(path=f"{prefix}/{row.path}") for row in found.rows]
    return replace(found, rows=rows)


def _by_file_names(root: Path, top: Path) -> Found:
    """Read the class off the beginning of each file's name: what stands before its number."""
    rows, others = [], []
    parts = [(SPLITS.get(path.name.lower(), ""), path) for path in folders_in(top, root.resolve())]
    for split, folder in [("", top), *((split, path) for split, path in parts if split)]:
        for path in entries(folder):
            if path.is_file() and not is_image_name(path.name):
                others.append(relative(path, root))
            elif path.is_file():
                name = path.stem
                while (shorter := NUMBERED.sub("", name)) != name:
                    name = shorter
                if not name.strip():
                    raise CocoopError(f"the name of {path} does not begin with a class")
                rows.append(Row(relative(path, root), name, split))
    if not rows:
        raise CocoopError(f"there are no images in {top} whose names could tell their classes")
    notes, warnings = passed_over(others)
    first = Path(rows[0].path).name
    return Found(rows, (f"classes are in the file names: {first} is {brief(rows[0].cls)}", *notes), warnings)


def _has_classes(top: Path, parts: Sequence[Path]) -> bool:
    """Whether there are folders that may be classes: two beside each other, not all named after splits."""
    folders = [path for path in entries(top) if path.is_dir()]
    if folders and len(parts) == len(folders):
        return any(path.is_dir() for part in parts for path in entries(part)) and not all(
            _loose(part) for part in parts
        )
    return len(folders) > 1


def _loose(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.is_file() and is_image_name(path.name)]


def _agreed(root: Path, folders: Found, found: Found, table: str) -> Found:
    """Return what folders and a table tell alike. Raises CocoopError showing both where they do not."""
    by_folder = {row.path: [row.cls] for row in folders.rows}
    by_table: dict[str, list[str]] = {}
    for row in found.rows:
        by_table.setdefault(row.path, []).append(row.cls)
    differing = [path for path, classes in by_table.items() if by_folder.get(path) != classes]
    if not differing:
        return folders
    path = differing[0]
    raise CocoopError(
        f"{root} can be read in two ways: by its folders, {path} is {_quoted(by_folder.get(path))}; by "
        f"{table} it is {_quoted(by_table[path])}. Say --labels-from folders or --labels-from {table}"
    )


def _quoted(names: Sequence[str] | None) -> str:
    return " and ".join(map(brief, names)) if names and any(names) else "of no class"


def _two_readings(root: Path, parts: Sequence[Path]) -> str:
    names = " and ".join(brief(part.name) for part in parts)
    return (
        f"images lie directly in the folders {names} of {root}, which can be read in two ways: as a split "
        "whose classes are not told (put one folder for each class into them, add a table, or say "
        "--labels-from names where the names of the files begin with their classes), "
        f"or as classes called {names} (say --labels-from folders)"
    )


def _hinted(top: Path, found: Found) -> Found:
    """Point to a list of class names beside folders that are numbers."""
    if lists := [top / name for name in LISTS if (top / name).is_file()]:
        classes = {row.cls for row in found.rows}
        if all(name.isdigit() for name in classes):
            note = f"{lists[0].name} may have the names of the classes; to take them: --names {lists[0]}"
            return replace(found, warnings=(*found.warnings, note))
    return found
