"""How own data are to be read, where they do not say so themselves; and what a reader gives back."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

FOLDERS, FILE_NAMES = "folders", "names"  # where labels may be said to be
ONE, SEVERAL = "one", "several"  # classes an image may have
Form = Literal["texts", "marks", "lists", "parts"]


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
        label_sep: what stands between the classes of an image in a column of texts.
        labels: whether an image has "one" class, or "several" or none.
    """

    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    sep: str | None = None
    encoding: str | None = None
    labels_from: str | None = None
    label_sep: str | None = None
    labels: str | None = None


class Row(NamedTuple):
    """One image and a class, as the data have it: where it is, its class as spelled there, its split or "".

    An image of several classes has a row for each, one of no class a row with the class "".
    """

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
        form: how classes are written: "texts" of one, "marks" in a column a class, "lists", or "parts" of a
            text with a separator that was given.
        several: whether an image may have several classes, or none.
    """

    rows: list[Row]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    form: Form = "texts"
    several: bool = False


PLAIN = Reading()  # nothing is said
