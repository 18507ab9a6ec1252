"""Tables of images, CSV, TSV, JSON lines and Parquet, that lead astray or are no tables."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from audits.hostile.case import Case, command, content
from audits.hostile.images import encoded
from cocoop.data import open_dataset

ASTRAY = {
    "above": "../secret.png",
    "above-within": "red/../../secret.png",
    "above-windows": "..\\secret.png",
    "above-mixed": "red\\..\\../secret.png",
    "absolute": "/etc/passwd",
    "drive": "C:\\Windows\\win.ini",
    "drive-relative": "C:secret.png",
    "network": "\\\\server\\share\\a.png",
    "device": "/dev/zero",
    "address": "file:///etc/passwd",
    "web": "https://example.com/a.png",
    "home": "~/secret.png",
    "variable": "$HOME/secret.png",
    "encoded": "%2e%2e/secret.png",
    "null": "red/0.png\0../secret.png",
    "only-null": "\0",
    "link-out": "out/secret.png",
    "link-to-itself": "loop/a.png",
    "long": "a/" * 50_000 + "b.png",
    "long-name": "a" * 5_000 + ".png",
    "control": "\x1b[31mred.png",
    "blank": "   ",
    "folder": "red",
}
LABELS = {
    "formula": "=cmd|' /C calc'!A0",
    "html": "<script>alert(1)</script>",
    "escape": "\x1b]0;owned\x07",
    "null": "re\0d",
    "long": "red" * 100_000,
    "blank": " ",
    "underscores": "___",
    "same-but-for-case": "BLUE",
    "override": "\u202eder",
    "spaces-only-differ": " blue\u00a0",
    "number": "007",
    "not-a-number": "nan",
}


def cases(rng: random.Random) -> Iterator[Case]:
    """Yield the cases of this kind."""
    for name, path in ASTRAY.items():
        for ending in (
            ("csv", "jsonl") if name in ("above", "null", "link-out", "absolute", "long") else ("csv",)
        ):
            yield _opened(f"{ending}-path-{name}", ending, _rows(path, "red"))
    for name, label in LABELS.items():
        yield _opened(f"csv-label-{name}", "csv", _rows("red/0.png", label))
        rows = _rows("red/0.png", label)
        use = command("fit", "t.jsonl", "--out", "m", "--backbone", "toy", "--epochs", "1")
        yield Case(f"fit-label-{name}", _with_photos("t.jsonl", _jsonl(rows)), use)
    for name, text in _texts(rng).items():
        ending = name.split("-")[0]
        yield Case(f"table-{name}", _with_photos(f"t.{ending}", text), _open(f"t.{ending}"), f"t.{ending}")
    for name, write in _parquets().items():
        yield Case(f"parquet-{name}", _both(_photos, write), _open("t.parquet"), "t.parquet")
    for name, text in _names_files().items():
        ending = name.split("-")[0]
        make = _both(_photos, content(f"n.{ending}", text))
        yield Case(f"names-file-{name}", make, _open("photos", f"n.{ending}"))
    for name, make in _folders().items():
        yield Case(f"folder-{name}", make, _open("photos"))


def _open(name: str, names: str | None = None) -> Callable[[Path], object]:
    return lambda folder: open_dataset(str(folder / name), names=folder / names if names else None).splits


def _opened(name: str, ending: str, rows: list[dict[str, str]]) -> Case:
    text = _csv(rows) if ending == "csv" else _jsonl(rows)
    return Case(name, _with_photos(f"t.{ending}", text), _open(f"t.{ending}"), f"t.{ending}")


def _rows(path: str, label: str) -> list[dict[str, str]]:
    rows = [{"path": f"photos/blue/{n}.png", "label": "blue"} for n in range(2)]
    path = f"photos/{path}" if path.startswith("red/") else path
    return [*rows, {"path": path, "label": label}, {"path": "photos/red/1.png", "label": label}]


def _csv(rows: list[dict[str, str]]) -> str:
    lines = [[row["path"], row["label"]] for row in rows]
    return "path,label\n" + "".join('"{}","{}"\n'.format(*line) for line in lines)


def _jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _photos(folder: Path) -> None:
    for name in ("red", "blue"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(3):
            (folder / "photos" / name / f"{number}.png").write_bytes(encoded("png", (8 + number, 8)))
    (folder / "out").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    (folder.parent / "secret.png").write_bytes(encoded("png"))


def _both(*steps: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: [step(folder) for step in steps]


def _with_photos(name: str, text: str | bytes) -> Callable[[Path], object]:
    return _both(_photos, content(name, text))


def _texts(rng: random.Random) -> dict[str, str | bytes]:
    good = _csv(_rows("red/0.png", "red"))
    wide = ",".join(f"c{number}" for number in range(100_000))
    deep = "[" * 100_000
    return {
        "csv-byte-order-mark": b"\xef\xbb\xbf" + good.encode(),
        "csv-utf-16": good.encode("utf-16"),
        "csv-utf-32": good.encode("utf-32"),
        "csv-latin-1": good.replace("red", "röd").encode("latin-1"),
        "csv-empty": "",
        "csv-head-only": "path,label\n",
        "csv-nulls": "path,label\n\0\0\0\0,\0\n",
        "csv-all-null": bytes(10_000),
        "csv-quote-never-closed": 'path,label\n"' + "a" * 1_000_000,
        "csv-field-of-20-mb": "path,label\nred/0.png," + "a" * 20_000_000 + "\n",
        "csv-100000-columns": f"{wide}\n{wide}\n",
        "csv-100000-columns-and-ours": f"path,label,{wide}\nphotos/red/0.png,red,{wide}\n",
        "csv-ragged": "path,label\na,b,c,d,e\na\n,,,,\n",
        "csv-columns-twice": "path,path,label,label\na,b,c,d\n",
        "csv-columns-in-capitals": "PATH,LABEL\na,b\n",
        "csv-carriage-returns": good.replace("\n", "\r"),
        "csv-million-empty-lines": "path,label" + "\n" * 1_000_000,
        "csv-noise": rng.randbytes(50_000),
        "csv-image": encoded("png"),
        "csv-unknown-split": "path,label,split\nphotos/red/0.png,red,../../x\n",
        "csv-split-mixed": "path,label,split\nphotos/red/0.png,red,train\nphotos/blue/0.png,blue,\n",
        "tsv-commas": good,
        "tsv-quotes": 'path\tlabel\n"photos/red/0.png\tred\n',
        "jsonl-deep": f'{{"path": {deep}\n',
        "jsonl-deep-closed": '{"path": ' + deep + "]" * 100_000 + "}\n",
        "jsonl-numbers": '{"path": 1e999, "label": -1e999}\n',
        "jsonl-huge-number": '{"path": ' + "9" * 10_000 + ', "label": 1}\n',
        "jsonl-nan": '{"path": NaN, "label": Infinity}\n',
        "jsonl-lists": '{"path": ["a"], "label": {"b": 1}}\n',
        "jsonl-no-objects": "[1, 2]\n3\nnull\n",
        "jsonl-keys-twice": '{"path": "a", "path": "b", "label": "c"}\n',
        "jsonl-surrogate": '{"path": "photos/red/0.png", "label": "\\ud800"}\n' * 2,
        "jsonl-prototype": '{"__proto__": 1, "__class__": "os", "path": "a"}\n',
        "jsonl-empty": "",
        "jsonl-noise": rng.randbytes(20_000),
        "jsonl-200000-keys": "{" + ",".join(f'"k{number}":1' for number in range(200_000)) + "}\n",
        "parquet-text": good,
        "parquet-magic": b"PAR1" + rng.randbytes(500) + b"\xff\xff\xff\x7fPAR1",
    }


def _parquets() -> dict[str, Callable[[Path], object]]:
    def table(**columns: object) -> Callable[[Path], object]:
        return lambda folder: pq.write_table(pa.table(columns), folder / "t.parquet")

    def repeated(folder: Path) -> None:
        """A megabyte, written once and meant two million times."""
        values = pa.DictionaryArray.from_arrays(
            pa.array([0] * 2_000_000, pa.int32()), pa.array(["a" * 1_000_000])
        )
        table = pa.table({"path": values, "label": values})
        options = {"dictionary_pagesize_limit": 1 << 24, "write_statistics": False, "store_schema": False}
        pq.write_table(table, folder / "t.parquet", **options)

    def cut(folder: Path) -> None:
        table(path=["photos/red/0.png"] * 9, label=["red"] * 9)(folder)
        data = (folder / "t.parquet").read_bytes()
        (folder / "t.parquet").write_bytes(data[: len(data) // 2] + data[-8:])

    def rows(folder: Path) -> None:
        zeros = pa.array([0] * 25_000_000, pa.int8())
        pq.write_table(pa.table({"path": zeros, "label": zeros}), folder / "t.parquet")

    return {
        "lists": table(path=[["a"], ["b"]], label=[["c"], ["d"]]),
        "objects": table(path=[{"a": 1}], label=[{"b": 2}]),
        "binary": table(path=[b"\xff\xfe", b"\0"], label=[b"\xff", b"b"]),
        "numbers": table(path=[1, 2], label=[0.5, float("nan")]),
        "nothing": table(path=pa.array([], pa.string()), label=pa.array([], pa.string())),
        "no-values": table(path=pa.array([None], pa.string()), label=pa.array([None], pa.string())),
        "other-columns": table(image=["a"], cls=["b"]),
        "20000-columns": table(**{f"c{number}": [1] for number in range(20_000)}),
        "above": table(path=["../secret.png"] * 2, label=["red", "blue"]),
        "value-repeated": repeated,
        "25-million-rows": rows,
        "cut": cut,
    }


def _names_files() -> dict[str, str | bytes]:
    return {
        "json-deep": "[" * 100_000,
        "json-deep-objects": '{"a":' * 100_000,
        "json-list": '["red", "blue"]',
        "json-number": "1" * 5_000,
        "json-numbers": '{"red": 1, "blue": NaN}',
        "json-surrogates": '{"red": "\\ud800", "blue": "b"}',
        "json-nulls": '{"red": "\\u0000", "blue": "b"}',
        "json-the-same": '{"red": "x", "blue": "X "}',
        "json-format": '{"red": "{0.__class__}", "blue": "{}"}',
        "json-escape": '{"red": "\\u001b[2J", "blue": "b"}',
        "json-long": json.dumps({"red": "a" * 1_000_000, "blue": "b"}),
        "csv-three-columns": "red,a,b\nblue,c,d\n",
        "csv-nulls": "red\0,a\nblue,b\n",
        "csv-field-of-a-megabyte": "red," + "a" * 1_000_000 + "\nblue,b\n",
        "csv-utf-16": "red,a\nblue,b\n".encode("utf-16"),
        "csv-formulas": "red,=1+1\nblue,@SUM(A1)\n",
        "csv-empty": "",
    }


def _folders() -> dict[str, Callable[[Path], object]]:
    def deep(folder: Path) -> None:
        _photos(folder)
        here = os.open(folder / "photos" / "red", os.O_RDONLY)
        for _ in range(1200):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)

    def crossed(folder: Path) -> None:
        """Twelve folders, each with a link to every other: more ways through than atoms."""
        _photos(folder)
        places = [folder / "photos" / "red" / f"f{number}" for number in range(12)]
        for place in places:
            place.mkdir()
        for place in places:
            for other in places:
                (place / f"to-{other.name}").symlink_to(other)

    def linked(target: str) -> Callable[[Path], object]:
        return _both(_photos, lambda folder: (folder / "photos" / "red" / "l.png").symlink_to(target))

    def named(name: bytes) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            _photos(folder)
            place = os.path.join(os.fsencode(folder / "photos"), name)
            os.mkdir(place)
            with open(os.path.join(place, b"a.png"), "wb") as file:
                file.write(encoded("png"))

        return make

    def pipes(folder: Path) -> None:
        _photos(folder)
        os.mkfifo(folder / "photos" / "red" / "pipe.png")

    def many(folder: Path) -> None:
        for number in range(10_000):
            (folder / "photos" / f"class {number}").mkdir(parents=True)
            (folder / "photos" / f"class {number}" / "a.png").write_bytes(b"x")

    return {
        "1200-deep": deep,
        "links-crossed": crossed,
        "link-to-itself": linked("l.png"),
        "link-out": linked("../../../secret.png"),
        "link-to-root": linked("/"),
        "link-to-class": linked("."),
        "pipe": pipes,
        "of-10000-classes": many,
        "class-of-no-letters": named(b"\xff\xfe"),
        "class-escape": named(b"\x1b[31m"),
        "class-newline": named(b"a\nb"),
        "class-override": named("\u202eabc".encode()),
        "class-two-dots": named(b"..."),
        "class-format": named(b"{0.__class__}"),
        "class-markup": named(b"[bold]<b>"),
    }
