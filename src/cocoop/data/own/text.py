"""Text tables as people have them: any usual encoding and separator, with or without a header."""

import codecs
import csv
import io
from pathlib import Path

import pandas as pd

from cocoop.data.decode import is_image_name
from cocoop.data.own.reading import Reading
from cocoop.errors import UsageError
from cocoop.utils.display import brief

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
SEPARATORS = (",", ";", "\t", "|")
LINES = 50  # that are looked at for the separator
NAMED = ("path", "label", "split")  # the columns of a table without a header


def read_text_table(path: Path, reading: Reading) -> tuple[pd.DataFrame, list[str]]:
    """Return a text table with what was found out about it; raises whatever a damaged file provokes.

    Raises:
        UsageError: no such encoding, or a separator of several letters.
        ValueError: it is no such text.
    """
    text, encoding = read_any_text(path, reading.encoding)
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    if text.startswith("sep=") and len(first := text.partition("\n")[0].strip()) == len("sep=;"):
        text, declared = text.partition("\n")[2], first[-1]  # what spreadsheets write for each other
    else:
        declared = ""
    sep = reading.sep or declared or sniff_separator(text, usual, path.suffix.lower() == ".txt")
    sep = "\t" if sep == r"\t" else sep
    if len(sep) != 1:
        raise UsageError(f"--sep {brief(sep)}: a separator is one character, e.g. --sep ';'")
    head = next(csv.reader(io.StringIO(text), delimiter=sep, skipinitialspace=sep != " "), [])
    bare = len(head) in (2, 3) and is_image_name(head[0])
    frame = pd.read_csv(
        io.StringIO(text),
        sep=sep,
        dtype=str,
        keep_default_na=False,
        skipinitialspace=sep != " ",
        header=None if bare else 0,
        names=list(NAMED[: len(head)]) if bare else None,
    )
    frame.columns = [str(name).strip() for name in frame.columns]
    notes = []
    if sep != usual and not reading.sep:
        notes.append(f"columns are separated by {brief(sep)}")
    if encoding not in ("utf-8", "utf-8-sig") and not reading.encoding:
        notes.append(f"read as {encoding}, as it is not UTF-8")
    if bare:
        notes.append(f"there is no header; the columns are taken as {', '.join(NAMED[: len(head)])}")
    return frame, notes


def read_any_text(path: Path, encoding: str | None = None) -> tuple[str, str]:
    """Return a text and its encoding: the one asked for, or by its mark, else UTF-8, else Windows' Latin-1.

    Raises:
        UsageError: there is no such encoding, or the text is not in it.
        ValueError: a text that its mark promises to be UTF-16 is not.
    """
    data = path.read_bytes()
    if encoding:
        try:
            return data.decode(encoding), encoding
        except (LookupError, ValueError) as error:
            raise UsageError(f"{path} cannot be read with --encoding {encoding}: {error}") from None
    for mark, name in MARKS:
        if data.startswith(mark):
            return data.decode(name), name
    for name, zeros, letters in (
        ("utf-16-le", data[1:400:2], data[:400:2]),
        ("utf-16-be", data[:400:2], data[1:400:2]),
    ):
        if zeros and not any(zeros) and all(letters):  # ASCII letters, without a mark
            return data.decode(name), name
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), "cp1252"


def sniff_separator(text: str, usual: str, blanks: bool = False) -> str:
    """Return the separator that splits all of the first lines into the same number of columns, two at least.

    Args:
        text: of the table.
        usual: taken where several do, or none.
        blanks: whether a blank may be one.
    """
    lines = [line for line in text[: 1 << 16].splitlines()[: LINES + 1] if line.strip()][:LINES]
    best, columns = usual, 1
    for sep in dict.fromkeys((usual, *SEPARATORS, *([" "] if blanks else []))):
        try:
            counts = {len(row) for row in csv.reader(lines, delimiter=sep)}
        except csv.Error:
            continue
        if len(counts) == 1 and (count := counts.pop()) > columns:
            best, columns = sep, count
    return best
