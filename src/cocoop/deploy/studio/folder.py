"""The folder that is labelled: its images, their labels and names, and what can be undone.

```
labels.csv    path,label of every labelled image: a table that `cocoop fit` reads
names.json    {"name": ["name", "phrase", ...]}, as `--names` reads it
```

Both are written whole at every change, so that a crash loses nothing that was said. A table that somebody
else wrote, before or meanwhile, or one that would lose rows, is kept beside as `labels.csv.before`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cocoop.data.own.folder import relative
from cocoop.data.own.rows import same_name
from cocoop.deploy.studio.names import Name, clean
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import brief
from cocoop.utils.files import write_bytes, write_json

LABELS, NAMES, BEFORE = "labels.csv", "names.json", "before"
HEADER = ["path", "label"]
NONE = -1  # the label of an image that has none
STEPS = 200  # that can be undone


@dataclass(frozen=True)
class Step:
    """Names and labels as they were before a change, and the change in words."""

    words: str
    names: tuple[Name, ...]
    labels: Int[np.ndarray, " n"]


@dataclass
class Folder:
    """Images by place, and what is said of each; one thread at a time.

    Attributes:
        root: the folder.
        ids: of the images: what a file is, and in which state.
        paths: below the root, with forward slashes.
        names: that images are labelled with, in the order of the person.
        labels: the place of its name for every image, or `NONE`.
        notes: what a person should know of how the folder was read.
        read_only: why labels cannot be kept, or "".
        undone: steps that can be done again.
        done: steps that can be undone.
    """

    root: Path
    ids: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    names: tuple[Name, ...] = ()
    labels: Int[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.int32))
    notes: list[str] = field(default_factory=list)
    read_only: str = ""
    done: list[Step] = field(default_factory=list)
    undone: list[Step] = field(default_factory=list)
    keep_before: bool = False  # whether what is in the files is more than is known here

    def __post_init__(self) -> None:
        self.place = {each: index for index, each in enumerate(self.ids)}
        self._cells = [cell(path) for path in self.paths]
        self._written = b""  # the table
        self._seen = stamp(self.root / LABELS)  # of it, as it was read or written

    def words(self) -> list[str]:
        """The names as texts."""
        return [each.name for each in self.names]

    def label(self, marks: Mapping[int, str | None]) -> None:
        """Label images, by place, or take their labels away; a name that is not listed is added.

        Raises:
            UsageError: a name cannot be one.
            CocoopError: the files cannot be written; nothing has changed.
        """
        names = {each.name: each for each in self.names}
        cleaned = {word: clean(word) for word in set(marks.values()) - {None} if word is not None}
        names |= {word: Name(word) for word in sorted(cleaned.values()) if word not in names}
        listed = checked([*names.values()])
        place = {each.name: index for index, each in enumerate(listed)}
        labels = self.labels.copy()
        for image, word in marks.items():
            labels[image] = NONE if word is None else place[cleaned[word]]
        count = f"{len(marks)} image{'s' * (len(marks) != 1)}"
        words = f"take the label{'s' * (len(marks) != 1)} of {count} away"
        if cleaned:
            kind = f" as {sorted(cleaned.values())[0]}" if len(set(marks.values())) == 1 else ""
            words = f"label {count}{kind}"
        self._change(words, listed, labels)

    def texts(self) -> np.ndarray:
        """Return the label of every image as a text, or None."""
        return np.array([*self.words(), None], object)[self.labels]

    def rename(self, names: Sequence[tuple[Name, str | None]]) -> None:
        """Replace the list of names.

        Args:
            names: each with what it was called before, whose images follow; the images of a name that is not
                here any more lose their labels.

        Raises:
            UsageError: names cannot be told apart, or cannot be names.
            CocoopError: the files cannot be written; nothing has changed.
        """
        listed = checked([each for each, _ in names])
        place = {each.name: index for index, each in enumerate(listed)}
        place |= {before: place[each.name] for each, before in names if before}
        moved = [place.get(word, NONE) for word in self.words()]
        labels = np.array([*moved, NONE], np.int32)[self.labels]  # NONE stays so
        self._change("change the names", listed, labels)

    def undo(self) -> None:
        """Take the last change back. Raises UsageError where there is none, CocoopError as `label` does."""
        self._swap(self.done, self.undone, "undo")

    def redo(self) -> None:
        """Do the last change again that was taken back; raises as `undo` does."""
        self._swap(self.undone, self.done, "do again")

    def write(self) -> None:
        """Write the table and the names as they are. Raises CocoopError as `label` does."""
        self._set(self.names, self.labels)

    def add(self, path: Path) -> str:
        """Take in an image file that lies in the folder now; return its id."""
        (each,) = identified(self.root, [path])
        if each not in self.place:
            self.place[each] = len(self.ids)
            self.ids.append(each)
            self.paths.append(relative(path, self.root))
            self._cells.append(cell(self.paths[-1]))
            self.labels = np.append(self.labels, np.int32(NONE))
        return each

    def _swap(self, taken: list[Step], given: list[Step], what: str) -> None:
        if not taken:
            raise UsageError(f"there is nothing to {what}")
        step, now = taken[-1], (self.names, self.labels)
        self._set(step.names, padded(step.labels, len(self.ids)))
        taken.pop()
        given.append(Step(step.words, *now))

    def _change(self, words: str, names: tuple[Name, ...], labels: Int[np.ndarray, " n"]) -> None:
        before = Step(words, self.names, self.labels)
        if names == self.names and np.array_equal(labels, self.labels):
            return
        self._set(names, labels)
        self.done = [*self.done, before][-STEPS:]
        self.undone = []

    def _set(self, names: tuple[Name, ...], labels: Int[np.ndarray, " n"]) -> None:
        """Write names and labels, then take them over. Raises CocoopError where that is not possible."""
        if self.read_only:
            raise CocoopError(self.read_only)
        try:
            if self.keep_before or stamp(self.root / LABELS) != self._seen:
                keep(self.root / LABELS)
                self.keep_before, self._written = False, b""
            table, called = (
                self._table(names, labels),
                {each.name: [each.name, *each.others] for each in names},
            )
            if table != self._written:
                write_bytes(self.root / LABELS, table)
                self._written, self._seen = table, stamp(self.root / LABELS)
            if names != self.names or not (self.root / NAMES).exists():
                write_json(self.root / NAMES, called)
        except OSError as error:
            raise CocoopError(f"the labels cannot be written: {error}; nothing was changed") from error
        self.names, self.labels = names, labels

    def _table(self, names: tuple[Name, ...], labels: Int[np.ndarray, " n"]) -> bytes:
        ends = [f",{cell(each.name)}\n" for each in names]
        rows = [self._cells[place] + ends[labels[place]] for place in np.flatnonzero(labels >= 0).tolist()]
        return "".join([",".join(HEADER), "\n", *rows]).encode()


def checked(names: Sequence[Name]) -> tuple[Name, ...]:
    """Return names that CLIP can tell apart. Raises UsageError where it cannot."""
    first: dict[str, str] = {}
    for each in names:
        if (other := first.setdefault(same_name(each.name), each.name)) != each.name:
            raise UsageError(f"{brief(other)} and {brief(each.name)} are one name to CLIP; give each once")
    if len(first) < len(names):
        raise UsageError("a name is given twice; give each once")
    return tuple(names)


def identified(root: Path, paths: Sequence[Path]) -> list[str]:
    """Return an id for every image file, by its path, size and modification time."""
    ids = []
    for path in paths:
        with suppress(OSError):
            info = path.stat()
        about = f"{root}\0{relative(path, root)}\0{info.st_size}\0{info.st_mtime_ns}"
        ids.append(hashlib.sha256(about.encode()).hexdigest()[:16])
    return ids


def padded(labels: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, " m"]:
    """Return labels for the images that came since, too: none."""
    return np.append(labels, np.full(count - len(labels), NONE, np.int32))


def cell(text: str) -> str:
    """Return a text as a cell of a table, quoted where a reader could take it for something else."""
    plain = text == text.strip() and not any(sign in text for sign in ',"\r\n')
    return text if plain else '"' + text.replace('"', '""') + '"'


def stamp(path: Path) -> tuple[int, int] | None:
    """Return the size of a file and when it was changed; None where there is none."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_size, info.st_mtime_ns


def keep(path: Path) -> None:
    """Keep a file under the first name beside it that is free."""
    with suppress(FileNotFoundError):
        data, number = path.read_bytes(), 1
        while (other := path.with_name(f"{path.name}.{BEFORE}{number if number > 1 else ''}")).exists():
            number += 1
        write_bytes(other, data)
