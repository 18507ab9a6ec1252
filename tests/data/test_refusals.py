"""Hostile images, archives, tables, folders and split files: refused by name, or read rightly."""

import io
import json
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cocoop import CocoopError
from cocoop.data.decode import decode_photo, open_image, to_image
from cocoop.data.own.names import read_names
from cocoop.data.own.reading import Row
from cocoop.data.own.rows import to_splits
from cocoop.data.own.source import open_source
from cocoop.data.own.table import read_table
from cocoop.data.splits import leaves, read_split
from cocoop.data.storage import read_bytes
from cocoop.utils.files import read_lines
from tests.refusals import ACTIVE, FUZZ, png, refusal

HUGE = 60_000  # pixels an edge
NO_IMAGES = {
    "entities": b'<!DOCTYPE s [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>',
    "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n%%EOF",
    "html": b"<!doctype html><script>alert(1)</script>",
    "program": b"\x7fELF\x02\x01\x01" + bytes(200),
    "archive": b"PK\x03\x04" + bytes(100),
    "script": b"#!/bin/sh\ntouch canary\n",
    "pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch canary\x85R.",
    "photoshop": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, HUGE, HUGE, 8, 3),
    "nulls": bytes(10_000),
}


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG file of 8-bit RGB with these chunks behind its header."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in (header, *chunks)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


LINE = (b"IDAT", zlib.compress(bytes(10_000_000), 9))
BOMBS = {
    "png": _png(HUGE, HUGE, LINE),
    "png-of-one-line": _png(2**31 - 1, 1, LINE),
    "png-of-no-pixels": _png(0, 5, LINE),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
    "bmp": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, HUGE, HUGE, 1, 24, 0, 0, 0, 0, 0, 0),
    "webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\xff" * 2 + b"VP8L" + bytes(8),
    "ppm": f"P6 {HUGE} {HUGE} 255\n".encode(),
    "ppm-of-digits": b"P6 " + b"9" * 5000 + b" 1 255\n",
}


@pytest.mark.parametrize("data", [*NO_IMAGES.values(), *BOMBS.values()], ids=[*NO_IMAGES, *BOMBS])
def test_what_is_no_image_or_too_large_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    for read in (lambda: to_image(tmp_path / "a.png"), lambda: open_image(tmp_path, "a.png")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of a file of so many pixels
            assert "a.png" in (refusal(read) or "")


def test_other_kinds_are_refused_for_benchmarks_too(tmp_path: Path) -> None:
    for kind in ("ICO", "PCX", "TGA", "SGI", "EPS"):
        (tmp_path / "a.png").write_bytes(png(kind=kind))
        with pytest.raises(CocoopError, match="not of a kind that is read"):
            open_image(tmp_path, "a.png")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA", "LA"])
def test_ordinary_benchmark_images_have_the_pixels_they_had(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).convert(mode)
    image.save(tmp_path / "a.img", "JPEG" if mode == "CMYK" else "PNG")
    with Image.open(tmp_path / "a.img") as whole:
        np.testing.assert_array_equal(open_image(tmp_path, "a.img"), whole.convert("RGB"))


def test_huge_benchmark_images_are_refused(tmp_path: Path) -> None:
    for size in ((9_460, 9_460), (13_500, 13_500)):  # Pillow warns of the first, and refuses the second
        (tmp_path / "a.png").write_bytes(png(size, mode="1"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(CocoopError, match="more than 89,478,485 pixels"):
                open_image(tmp_path, "a.png")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    with (tmp_path / "c.png").open("wb") as file:
        file.truncate(1 << 40)
    for name, message in {
        "a.png": "no regular file",
        "b.png": "no regular file",
        "c.png": "bytes, more",
    }.items():
        for read in (
            lambda name=name: to_image(tmp_path / name),
            lambda name=name: open_image(tmp_path, name),
        ):
            with pytest.raises(CocoopError, match=message):
                read()


def test_a_replaced_archive_is_read_anew(tmp_path: Path) -> None:
    for text in ("one", "another"):
        with zipfile.ZipFile(tmp_path / "i.zip", "w") as archive:
            archive.writestr("a.png", text)
        assert read_bytes(tmp_path / "i.zip", "a.png") == text.encode()


def _archive(member: str = "a.png", data: bytes = png(), method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method, compresslevel=1) as archive:
        archive.writestr(zipfile.ZipInfo(member), data, method)
    return file.getvalue()


def _patched(mark: bytes, offset: int, value: int, form: str = "<H") -> bytes:
    """Return an archive with a number of its directory overwritten."""
    data = bytearray(_archive())
    struct.pack_into(form, data, data.index(mark) + offset, value)
    return bytes(data)


ARCHIVES = {
    "bomb-deflate": _archive(data=bytes(300_000_000)),
    "bomb-bzip2": _archive(data=bytes(300_000_000), method=zipfile.ZIP_BZIP2),
    "encrypted": _patched(b"PK\x01\x02", 8, 1),
    "unknown-compression": _patched(b"PK\x01\x02", 10, 99),
    "claims-4-gb": _patched(b"PK\x01\x02", 24, 2**32 - 2, "<I"),
    "wrong-checksum": _patched(b"PK\x01\x02", 16, 12_345, "<I"),
    "offset-astray": _patched(b"PK\x01\x02", 42, 2**31, "<I"),
    "cut": _archive()[:-30],
    "text": b"text",
    "empty": b"",
    "nested": _archive(data=_archive()),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_are_not_what_they_say_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "images.zip").write_bytes(ARCHIVES[name])
    assert "images.zip" in (refusal(lambda: open_image(tmp_path / "images.zip", "a.png")) or "")


@FUZZ
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=12),
    st.floats(0.05, 1),
)
def test_any_damage_to_an_image_is_read_or_refused(
    tmp_path: Path, kind: str, changes: list[tuple[float, int]], share: float
) -> None:
    data = bytearray(png((40, 30), kind))
    for place, value in changes:
        data[int(place * len(data))] = value
    data = data[: max(1, int(share * len(data)))]
    (tmp_path / "a.img").write_bytes(bytes(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, which the command hushes
        assert refusal(lambda: decode_photo(bytes(data)), ValueError) != ""
        assert refusal(lambda: open_image(tmp_path, "a.img")) != ""


# tables, folders, split files


@pytest.mark.parametrize(
    "path",
    [
        "../a",
        "a/../../b",
        "..\\a",
        "C:a",
        "C:\\a",
        "/a",
        "\\\\s\\a",
        "a\0b",
        ".. /a",
        "a/..",
        "...",
        "a/ ..\\b",
    ],
)
def test_paths_that_leave_on_some_system(path: str) -> None:
    assert leaves(path)


@pytest.mark.parametrize("path", ["a.jpg", "a/b..c/d.jpg", "a..b", "..a", "a/.b", "é/ü.png", "a b/c (1).png"])
def test_paths_that_stay(path: str) -> None:
    assert not leaves(path)


def test_links_and_depth(tmp_path: Path) -> None:
    for name in ("red", "blue"):
        for place in range(9):
            (tmp_path / name / f"f{place}").mkdir(parents=True)
        (tmp_path / name / "a.png").write_bytes(png())
    for one in range(9):
        for other in range(9):  # more ways through these links than could be walked
            (tmp_path / "red" / f"f{one}" / f"to{other}").symlink_to(tmp_path / "red" / f"f{other}")
    assert len(open_source(str(tmp_path)).splits["train"]) == 2
    (tmp_path / "red" / "self.png").symlink_to("self.png")
    with pytest.raises(CocoopError, match="leads back to itself"):
        open_source(str(tmp_path))
    (tmp_path / "red" / "self.png").unlink()
    (tmp_path / "blue" / Path(*["d"] * 150)).mkdir(parents=True)
    with pytest.raises(CocoopError, match="more than 100 deep"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("name", [ACTIVE, "a\0b", "\ud800", "\x9b"])
def test_control_characters_are_no_labels(name: str) -> None:
    with pytest.raises(CocoopError, match="without control characters"):
        to_splits([Row("a", name), Row("b", "cat")], "data")


TABLES = {
    "t.csv": [
        "path,label\n".encode("utf-16"),
        b"path,label\n\0\0\0\0,\0\n",
        bytes(10_000),
        b'path,label\n"' + b"a" * 1_000_000,
        b"path,path,label,label\na,b,c,d\n",
        b"path,label\n../a.png,red\nb.png,blue\n",
        b"path,label\n/etc/passwd,red\nb.png,blue\n",
        b"path,label\nfile:///etc/passwd,red\nC:\\a.png,blue\n",
        b"path,label,split\na.png,red,../../x\n",
    ],
    "t.jsonl": [
        b'{"path": ' + b"[" * 100_000 + b"\n",
        b'{"path": ' + b"9" * 10_000 + b', "label": 1}\n',
        b'{"path": NaN, "label": Infinity}\n',
        b'{"path": ["a"], "label": {"b": 1}}\n',
        b"[1, 2]\n3\nnull\n",
    ],
    "t.parquet": [b"path,label\n", b"PAR1" + bytes(500) + b"\xff\xff\xff\x7fPAR1"],
}


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, texts in TABLES.items() for data in texts])
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert name in (refusal(lambda: open_source(str(tmp_path / name))) or "")


ROW_OF = '{"train": [["a.jpg", %s, "a"]], "val": [], "test": []}'


@pytest.mark.parametrize(
    "text",
    [
        ROW_OF % "NaN",
        ROW_OF % "1e999",
        ROW_OF % "null",
        ROW_OF % "-1",
        ROW_OF % ("9" * 5_000),
        ROW_OF % ("[" * 100_000 + "]" * 100_000),
        '{"train":' * 100_000,
        '{"train": [["a.jpg", 0, "\\ud800"]], "val": [], "test": []}',
        '{"train": [["a.jpg", 0, "a", 1]], "val": [], "test": []}',
        "train: !!python/object/apply:os.system ['touch canary']",
    ],
)
def test_what_is_no_split_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    message = refusal(lambda: read_split(tmp_path / "split.json")) or ""
    assert "split.json" in message
    assert len(message) < 1_000


@FUZZ
@given(st.binary(max_size=200) | st.text('[]{}",:0123456789.eE-+\\ntrfals', max_size=80).map(str.encode))
@example(b"[" * 100_000)
@example(b'{"a":' * 50_000)
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    """Every reader of a text file gives a result, or an error of ours."""
    readers = {"s.json": read_split, "n.json": read_names, "n.csv": read_names, "c.txt": read_lines}
    readers |= {"t.csv": read_table, "t.tsv": read_table, "t.jsonl": read_table, "t.parquet": read_table}
    for name, read in readers.items():
        (tmp_path / name).write_bytes(data)
        message = refusal(lambda read=read, name=name: read(tmp_path / name))
        assert message is None or (name in message and len(message) < 2_000)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
ROWS = st.lists(
    st.tuples(st.text(max_size=8) | VALUES, st.integers(-2, 4) | VALUES, st.text(max_size=3) | VALUES)
)


@FUZZ
@given(st.fixed_dictionaries({"train": ROWS, "val": ROWS, "test": ROWS}) | VALUES)
def test_any_json_is_a_split_file_or_none(tmp_path: Path, value: object) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    try:
        splits = read_split(path)
    except CocoopError:
        return
    labels = {item.label for items in splits.values() for item in items}
    assert labels == set(range(len(labels)))
    assert not any(leaves(item.path) for items in splits.values() for item in items)


@FUZZ
@given(
    st.lists(st.fixed_dictionaries({"path": VALUES, "label": VALUES}, optional={"split": VALUES}), max_size=5)
)
def test_any_values_are_a_table_or_none(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    try:
        table = read_table(tmp_path / "t.jsonl")
    except CocoopError:
        return
    assert all((tmp_path / row.path).resolve().is_relative_to(tmp_path.resolve()) for row in table.rows)
