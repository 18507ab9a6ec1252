"""How own data are to be read, where they do not say so themselves; and what a reader gives back."""

from dataclasses import dataclass
from typing import NamedTuple

FOLDERS, FILE_NAMES = "folders", "names"  # where labels may be said to be


@dataclass(frozen=True)
class Reading:
    """What a person says of the data; None everywhere lets the data speak.

    Attributes:
        path_column: of a table or a data set of the Hub, the column of the images.
        label_column: the column of their classes.
        split_column: the column of their splits.
        sep: the separator of a text table.
        encoding: of a text table.
        labels_from: "folders", "names" for the file names, or a table in the folder.
    """

    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    sep: str | None = None
    encoding: str | None = None
    labels_from: str | None = None


class Row(NamedTuple):
    """One image as the data have it: where it is, its class as spelled there, its split or "" for none."""

    path: str
    cls: str
    split: str = ""


@dataclass(frozen=True)
class Found:
    """What was read.

    Attributes:
        rows: in any order.
        notes: what a reader of results must know.
        warnings: what a person should put right.
    """

    rows: list[Row]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


PLAIN = Reading()  # nothing is said
