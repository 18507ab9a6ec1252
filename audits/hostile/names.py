"""Class names that no class should have, through the commands that take them."""

import csv
import io
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from audits.hostile.case import Case, command, load_backbone_once
from audits.hostile.images import encoded
from cocoop.estimator import ZeroShot, load

NAMES = {
    "end-token": "<end_of_text>",
    "start-token": "<start_of_text>cat",
    "old-end-token": "<|endoftext|>",
    "end-token-as-entity": "&lt;end_of_text&gt;",
    "end-token-twice-escaped": "&amp;lt;end_of_text&amp;gt;",
    "null": "a\0b",
    "bell": "\x07",
    "escape": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "c1": "\x9b31mred",
    "delete": "a\x7f",
    "backspace": "safe\x08\x08\x08\x08evil",
    "carriage-return": "safe\revil",
    "line-separator": "a\u2028b",
    "surrogate": "\ud800",
    "undecodable": "caf\udce9",
    "override": "photo\u202egpj.exe",
    "isolate": "\u2066abc\u2069",
    "zero-width": "\u200b",
    "zero-width-within": "a\u200bb\u200dc",
    "combining": "a" + "\u0301" * 300,
    "soft-hyphen": "\u00ad",
    "byte-order-mark": "\ufeff",
    "replacement": "\ufffd",
    "unassigned": "\U000e0fff",
    "noncharacter": "\uffff",
    "emoji": "👩‍👩‍👧‍👦",
    "flag": "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "arabic": "تفاحة",
    "chinese": "红苹果",
    "full-width": "ｒｅｄ",
    "long": "a" * 10_000,
    "long-words": "word " * 2_000,
    "long-blank": "a" + " " * 10_000 + "b",
    "underscores": "____",
    "blank": "\u00a0\u3000",
    "dot": ".",
    "traversal": "../../etc/passwd",
    "html": "<script>alert(1)</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "entity": "&#x3c;script&#x3e;",
    "latex": "\\input{/etc/passwd}",
    "latex-write": "\\immediate\\write18{touch canary}",
    "markdown": "[x](javascript:alert(1)) | `a` ![](http://a/b)",
    "braces": "{}",
    "format": "{0.__class__.__mro__}",
    "percent": "%s%n%x",
    "rich-markup": "[bold red]x[/]",
    "rich-link": "[link=file:///etc/passwd]x[/link]",
    "rich-closing": "[/]",
    "shortcode": ":heart:",
    "formula": "=cmd|' /C calc'!A0",
    "formula-plus": "+1+1",
    "formula-at": "@SUM(A1:A9)",
    "formula-full-width": "＝1＋1",
    "quotes": "\"'`",
    "shell": "$(touch canary)`touch canary`;touch canary",
    "mathtext": "$\\frac{1$",
    "option": "--help",
    "number": "0",
    "not-a-number": "nan",
}
ODD = [name for name in NAMES.values() if name.isprintable() and "," not in name and len(name) < 60]


def cases(rng: random.Random) -> Iterator[Case]:
    """Yield the cases of this kind."""
    for name, text in NAMES.items():
        yield Case(f"classes-file-{name}", _lines([text, "apple"]), _predict("table"))
        if not set(text) & {"\0", ",", "\n"}:
            yield Case(f"predict-csv-{name}", _photo, _predict_csv(text))
    for name in ("end-token", "null", "escape", "surrogate", "long", "format", "zero-width", "combining"):
        yield Case(f"api-{name}", _photo, _api(NAMES[name]))
    yield Case("10000-names", _lines([f"thing {number}" for number in range(10_000)]), _predict("json"))
    yield Case(
        "10000-odd-names",
        _lines([f"{rng.choice(ODD)} {number}" for number in range(10_000)]),
        _predict("csv"),
    )
    yield Case("million-characters", _lines(["a" * 1_000_000]), _predict("table"))
    yield Case("one-name-100000-times", _lines(["apple"] * 100_000), _predict("json"))
    for name, raw in {
        "utf-16": "apple\npear".encode("utf-16"),
        "noise": rng.randbytes(5000),
        "empty": b"",
    }.items():
        yield Case(f"names-{name}", _photo_and(raw), _predict("table"), "names.txt")
    for method in ("coop", "zeroshot"):
        yield Case(f"evaluate-{method}", _data, _evaluate(method))


def _photo(folder: Path) -> None:
    (folder / "a.png").write_bytes(encoded("png"))


def _photo_and(raw: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        _photo(folder)
        (folder / "names.txt").write_bytes(raw)

    return make


def _lines(names: list[str]) -> Callable[[Path], object]:
    return _photo_and("\n".join(names).encode("utf-8", "surrogatepass"))


def _predict(format: str) -> Callable[[Path], object]:
    return command("predict", "model", "a.png", "--classes-file", "names.txt", "--format", format)


def _predict_csv(text: str) -> Callable[[Path], object]:
    """Predict, and read the answer as a spreadsheet would."""

    def use(folder: Path) -> None:
        shown, sys.stdout = sys.stdout, io.StringIO()
        try:
            command("predict", "model", "a.png", "--classes", f"{text},apple", "--format", "csv")(folder)
            rows = list(csv.reader(io.StringIO(sys.stdout.getvalue(), newline="")))
        finally:
            sys.stdout = shown
        assert len({len(row) for row in rows}) == 1, "rows of different lengths"
        cells = [cell for row in rows for cell in row]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells), "a formula"

    return use


def _api(text: str) -> Callable[[Path], object]:
    """Load a model and ask it for the name from Python."""

    def use(folder: Path) -> None:
        model = load(folder / "model", load_backbone_once())
        model.predict([folder / "a.png"], [text, "apple"])
        ZeroShot(load_backbone_once()).predict([folder / "a.png"], classes=[text])

    return use


def _data(folder: Path) -> None:
    """A folder of classes with odd names, as far as a file system has them."""
    names = [name for name in ODD if "/" not in name and not name.startswith(".") and name.strip("_ ")]
    kept = {name.lower(): name for name in names}
    for number, name in enumerate(kept.values()):
        place = folder / "photos" / name
        place.mkdir(parents=True)
        for copy in range(2):
            (place / f"{copy}.png").write_bytes(encoded("png", (8 + number, 8 + copy)))


def _evaluate(method: str) -> Callable[[Path], object]:
    """Fit on the folder and evaluate; every file that this writes is read again by the guard."""

    def use(folder: Path) -> None:
        fast = ("--backbone", "toy", "--method", method)
        fast += () if method == "zeroshot" else ("--epochs", "1")
        command("fit", "photos", "--out", "out/m", *fast)(folder)
        command("evaluate", "out/m", "photos", "--out", "out/e")(folder)
        for name in ("per_class.csv", "confusion.csv"):
            with (folder / "out" / "e" / name).open(newline="", encoding="utf-8") as file:
                for row in csv.reader(file):
                    assert not any(cell.startswith(("=", "@", "+")) for cell in row), "a formula"

    return use
