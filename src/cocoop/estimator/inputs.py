"""What people pass to a classifier: images in any form, and the names of their classes."""

import csv
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from cocoop.data.decode import ImageLike
from cocoop.data.own.columns import is_usual
from cocoop.data.own.rows import same_name
from cocoop.errors import CocoopError, UsageError
from cocoop.training.samples import shots_of
from cocoop.utils.display import brief, reason, some
from cocoop.utils.files import read_lines

Images = ImageLike | Sequence[ImageLike] | pd.Series | pd.DataFrame | TorchDataset[Any]
Names = Sequence[str] | np.ndarray | pd.Series
Labels = Names | Sequence[Collection[str]]  # the class of each image, or all classes of each
Classes = Names | Mapping[str, str | Sequence[str]]  # names, or phrases by name
SEVERAL = (list, tuple, set, frozenset, np.ndarray)  # what the classes of one image may come in
SHOWN = 20  # columns in a message


class Firsts(Sequence[Any]):
    """The images of a torch dataset of (image, label) pairs, each read when its turn comes.

    Args:
        dataset: with a length, and items by number.
        numbers: of the items that count.
    """

    def __init__(self, dataset: Any, numbers: range) -> None:
        self._dataset, self._numbers = dataset, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Firsts(self._dataset, self._numbers[index])
        item = self._dataset[self._numbers[index]]
        return item[0] if isinstance(item, tuple | list) else item


def listed(images: Images) -> Sequence[Any]:
    """Return a list of images, also for a single one that is no array, a column of paths, or a torch dataset.

    Raises:
        UsageError: a single array, a data frame without a column of paths, or nothing that has images.
    """
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | io.BytesIO | Image.Image):
        return [images]
    if isinstance(images, Firsts):
        return images  # one at a time, as it came from here
    if isinstance(images, pd.DataFrame):
        return cast(Sequence[Any], _column(images, "path").tolist())
    if hasattr(images, "samples") and hasattr(images, "classes"):
        return [path for path, _ in cast(Any, images).samples]  # a folder: its own transform does not count
    if isinstance(images, TorchDataset):
        return Firsts(images, range(len(cast(Any, images))))
    if isinstance(images, np.ndarray | Tensor) and images.ndim in (2, 3) and images.dtype != object:
        raise UsageError(
            f"a batch of images has four axes, not {tuple(images.shape)}; put one image in a list"
        )
    if isinstance(images, Mapping) or not isinstance(images, Iterable):
        raise UsageError(f"give a list of images, not {type(images).__name__}")
    return list(images)


def labels_of(images: Images, labels: Labels | None) -> Labels:
    """Return the labels that go with images: those given, or the ones that a frame or a torch dataset has.

    Raises:
        UsageError: there are none, or they are numbers without names.
    """
    if labels is not None:
        if isinstance(labels, pd.DataFrame):
            return cast(Sequence[str], _column(labels, "label").tolist())
        return labels
    if isinstance(images, pd.DataFrame):
        return cast(Sequence[str], _column(images, "label").tolist())
    classes, targets = (getattr(images, name, None) for name in ("classes", "targets"))
    if classes is None or targets is None:
        raise UsageError("give the class name of every image: fit(images, labels)")
    return [str(classes[int(target)]) for target in targets]


def _column(frame: pd.DataFrame, kind: str) -> pd.Series:
    """Return the column of a frame with the usual name. Raises UsageError where there is not one of them."""
    found = [name for name in frame.columns if is_usual(kind, str(name))]
    found = [name for name in found if name == kind] or found
    if frame.shape[1] == 1:
        found = list(frame.columns)
    if len(found) != 1:
        names = ", ".join(map(repr, frame.columns[:SHOWN]))
        raise UsageError(
            f"which column of the frame is the {kind}? It has {names}; give one: frame[{kind!r}]"
        )
    return frame[found[0]]


def check_pairs(images: Sequence[Any], labels: Labels) -> None:
    """Check that there are images, and as many labels. Raises UsageError."""
    if not len(images) or len(images) != len(labels):
        raise UsageError(f"{len(images)} images and {len(labels)} labels; give one label an image")


def texts(names: Classes | Labels) -> list[str]:
    """Return class names as a list. Raises UsageError for a single text, and for labels that are no texts."""
    if isinstance(names, str):
        raise UsageError(f"give a list of class names, not the text {names!r}")
    for name in names:
        if isinstance(name, list | tuple | set | np.ndarray):
            raise UsageError(f"an image has one class here, not several: {brief(str(name))}")
        if not isinstance(name, str):
            raise UsageError(
                f"a label is the name of its class, which CLIP reads; not {name!r}. Where labels were "
                "encoded as numbers, as scikit-learn's cross_val_predict does for predict_proba, give the "
                "names: take the folds of StratifiedKFold, and fit and predict_proba in each"
            )
    return [str(name) for name in names]


def is_several(labels: Labels) -> bool:
    """Whether labels are lists: the classes of each image, of which it may have several or none."""
    return any(isinstance(each, SEVERAL) for each in labels)


def label_lists(labels: Labels) -> list[tuple[str, ...]]:
    """Return the classes of each image, each once. Raises UsageError where some labels are no lists."""
    for each in labels:
        if not isinstance(each, SEVERAL):
            raise UsageError(
                f"the label {brief(str(each))} is no list, where others are or the model takes lists: give "
                "every image a list, [] for none of the classes; or each one name, where it has one class"
            )
    return [tuple(dict.fromkeys(texts(list(each)))) for each in labels]


def shots_in(labels: Labels) -> int:
    """Return how many images of a class there are, the most where classes differ."""
    return (
        shots_of(name for each in label_lists(labels) for name in each)
        if is_several(labels)
        else shots_of(texts(labels))
    )


def check_distinct(names: Sequence[str]) -> None:
    """Check that no two names are the same but for case, blanks and underscores, as CLIP reads them alike.

    Raises:
        UsageError: some are.
    """
    twice = [key for key, count in Counter(map(same_name, names)).items() if count > 1]
    if twice:
        alike = [name for name in names if same_name(name) == twice[0]]
        raise UsageError(f"the class names {some(alike)} are one to CLIP; give each class once")


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Return names without those that another before them is alike but for case, blanks and underscores."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(same_name(name), name)
    return tuple(first.values())


def with_phrases(words: Iterable[str]) -> Classes:
    """Return class names, or where some are "name=phrase|phrase" the phrases by name.

    Raises:
        UsageError: a name or a phrase is missing.
    """
    words = distinct(words)
    if not any("=" in word for word in words):
        return words
    called: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, rest = (part.strip() for part in word.partition("="))
        phrases = tuple(dict.fromkeys(each.strip() for each in rest.split("|"))) if equals else (name,)
        if not name or not all(phrases):
            raise UsageError(f"{brief(word)} is no class with its phrases; write name=phrase|phrase")
        called[name] = phrases
    return called


def read_classes(path: Path) -> tuple[str, ...]:
    """Read class names: one a line, a JSON list or object, or the last column of a CSV.

    Raises:
        UsageError: the file cannot be read.
        CocoopError: there are none, or it is no such file.
    """
    lines = read_lines(path)
    try:
        names = distinct(_class_names(lines, path.suffix.lower()))
    except (ValueError, RecursionError, csv.Error) as error:
        raise CocoopError(f"the file {path} holds no list of class names: {reason(error)}") from error
    if not names:
        raise CocoopError(f"the file {path} holds no class names; write one a line")
    return names


def _class_names(lines: Sequence[str], suffix: str) -> list[str]:
    if lines and (suffix == ".json" or lines[0][0] in "[{"):
        content = json.loads("\n".join(lines))
        names = list(content.values()) if isinstance(content, dict) else content
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("a JSON file of names is a list or an object of texts")
        return [name for name in names if name.strip()]
    if suffix not in (".csv", ".tsv"):
        return list(lines)
    rows = [row for row in csv.reader(lines, delimiter="\t" if suffix == ".tsv" else ",") if row]
    head = [
        place
        for place, cell in enumerate(rows[0])
        if cell.strip().lower() == "name" or is_usual("label", cell)
    ]
    place = head[0] if head else -1
    return [row[place].strip() for row in rows[bool(head) :] if row[place].strip()]


class NotFittedError(UsageError, AttributeError):
    """What an unfitted classifier raises.

    Where scikit-learn is in use, it is scikit-learn's `NotFittedError` too, for those who catch that.
    """

    def __new__(cls, *arguments: object) -> "NotFittedError":
        """Return an error of both kinds, where there are both."""
        theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
        return super().__new__(_of_both_kinds(theirs) if theirs else cls, *arguments)

    def __reduce__(self) -> Any:
        """Copy and pickle it by the name it has here: the process that reads it makes the kind it needs."""
        return NotFittedError, self.args


@cache
def _of_both_kinds(theirs: type[Exception]) -> type[NotFittedError]:
    return type("NotFittedError", (NotFittedError, theirs), {"__doc__": NotFittedError.__doc__})
