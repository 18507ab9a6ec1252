"""Split files of the benchmark that are no such files, or not of this dataset."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from audits.hostile.case import Case, content
from audits.hostile.tables import ASTRAY
from cocoop.data.splits import draw, read_split
from cocoop.data.verify import examine

GOOD = {"train": [["a.jpg", 0, "a"], ["b.jpg", 1, "b"]], "val": [], "test": [["c.jpg", 0, "a"]]}
LABELS: dict[str, object] = {
    "text": "0",
    "word": "a",
    "empty": "",
    "float": 0.0,
    "fraction": 0.5,
    "true": True,
    "null": None,
    "negative": -1,
    "huge": 10**18,
    "astronomical": 10**4000,
    "list": [0],
    "object": {"a": 0},
    "gap": 7,
    "hexadecimal": "0x0",
    "blank": " 0 ",
    "arabic": "٠",
}
NAMES: dict[str, object] = {
    "number": 5,
    "null": None,
    "list": ["a"],
    "empty": "",
    "blank": " ",
    "long": "a" * 1_000_000,
    "escape": "\x1b[31ma",
    "null-character": "a\0",
    "special-token": "<|endoftext|>",
    "format": "{0.__init__.__globals__}",
    "override": "\u202ea",
}
PATHS: dict[str, object] = {"number": 5, "null-value": None, "empty": "", "list": ["a"], **ASTRAY}
TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "blank": "   \n",
    "null": "null",
    "number": "5",
    "text": '"train"',
    "list": "[]",
    "object": "{}",
    "half": json.dumps(GOOD)[:40],
    "twice": json.dumps(GOOD) * 2,
    "comma": '{"train": [],}',
    "comment": '{"train": [] // none\n}',
    "python": "{'train': []}",
    "nan": '{"train": [["a.jpg", NaN, "a"]], "val": [], "test": []}',
    "infinity": '{"train": [["a.jpg", Infinity, "a"]], "val": [], "test": []}',
    "exponent": '{"train": [["a.jpg", 1e999, "a"]], "val": [], "test": []}',
    "leading-zero": '{"train": [["a.jpg", 00, "a"]], "val": [], "test": []}',
    "million-digits": '{"train": [["a.jpg", ' + "9" * 1_000_000 + ', "a"]], "val": [], "test": []}',
    "deep-lists": "[" * 1_000_000,
    "deep-objects": '{"train":' * 500_000,
    "deep-row": '{"train": [' + "[" * 100_000 + "]" * 100_000 + '], "val": [], "test": []}',
    "keys-twice": '{"train": [["a.jpg", 0, "a"]], "train": [["b.jpg", 0, "b"]], "val": [], "test": []}',
    "surrogate": '{"train": [["a.jpg", 0, "\\ud800"]], "val": [], "test": []}',
    "byte-order-mark": b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
    "utf-16": json.dumps(GOOD).encode("utf-16"),
    "latin-1": '{"träin": []}'.encode("latin-1"),
    "nulls": bytes(10_000),
    "pickle": b"\x80\x04cposix\nsystem\n(S'touch canary'\ntR.",
    "html": "<html>not found</html>",
    "yaml": "train: !!python/object/apply:os.system ['touch canary']",
    "lists-of-objects": '{"train": [{"path": "a", "label": 0, "name": "a"}], "val": [], "test": []}',
    "row-of-two": '{"train": [["a.jpg", 0]], "val": [], "test": []}',
    "row-of-four": '{"train": [["a.jpg", 0, "a", 1]], "val": [], "test": []}',
    "row-of-text": '{"train": ["a.jpg"], "val": [], "test": []}',
    "no-train": '{"val": [], "test": []}',
    "empty-lists": '{"train": [], "val": [], "test": []}',
    "test-only": '{"train": [], "val": [], "test": [["a.jpg", 0, "a"]]}',
    "one-label-two-names": '{"train": [["a.jpg", 0, "a"], ["b.jpg", 0, "b"]], "val": [], "test": []}',
    "one-name-two-labels": '{"train": [["a.jpg", 0, "a"], ["b.jpg", 1, "a"]], "val": [], "test": []}',
    "label-in-test-only": '{"train": [["a.jpg", 0, "a"]], "val": [], "test": [["b.jpg", 1, "b"]]}',
    "foreign-lists": json.dumps(GOOD | {"__proto__": [], "../x": [["a.jpg", 0, "a"]]}),
    "long-list-name": json.dumps({"a" * 1_000_000: []}),
    "100000-lists": json.dumps({f"l{number}": [] for number in range(100_000)}),
    "300000-rows": json.dumps(GOOD | {"train": [["a.jpg", 0, "a"], ["b.jpg", 1, "b"]] * 150_000}),
    "100000-bad-rows": json.dumps(GOOD | {"train": [["a.jpg", "x", "a"]] * 100_000}),
    "100000-classes": json.dumps(
        GOOD | {"train": [[f"{n}.jpg", n, f"c {n}"] for n in range(100_000)], "test": []}
    ),
}


def cases(rng: random.Random) -> Iterator[Case]:
    """Yield the cases of this kind."""
    for place, values in enumerate((PATHS, LABELS, NAMES)):
        for name, value in values.items():
            row: list[object] = ["a.jpg", 0, "a"]
            row[place] = value
            text = json.dumps(GOOD | {"train": [row, ["b.jpg", 1, "b"]]}) if value != 10**4000 else _digits()
            yield _case(f"{('path', 'label', 'name')[place]}-{name}", text)
    for name, text in TEXTS.items():
        yield _case(f"file-{name}", text)
    whole = json.dumps(GOOD).encode()
    for number in range(10):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        yield _case(f"flipped-{number}", bytes(flipped))


def _digits() -> str:
    return '{"train": [["a.jpg", 1' + "0" * 4000 + ', "a"]], "val": [], "test": []}'


def _case(name: str, text: str | bytes) -> Case:
    return Case(name, content("split.json", text), _use, "split.json")


def _use(folder: Path) -> object:
    """Read the file, draw from it, and look for its images."""
    splits = read_split(folder / "split.json")
    draw(splits, 1, 0)
    items = [item for item in splits["train"][:100] if item.path]
    assert all(each.problem for each in examine(folder, items)), "an image was found"
    return None
