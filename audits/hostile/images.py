"""Image files that are bombs, broken, or something else."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from audits.hostile.case import Case, command, content, decode

KINDS = {
    "avif": "AVIF",
    "bmp": "BMP",
    "gif": "GIF",
    "jp2": "JPEG2000",
    "jpg": "JPEG",
    "png": "PNG",
    "ppm": "PPM",
    "tiff": "TIFF",
    "webp": "WEBP",
}
HUGE = 60_000  # pixels an edge: 3.6 billion
POSING = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><image href="file:///etc/passwd"/></svg>',
    "svg-entities": b'<!DOCTYPE s [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>',
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary) (w) file closefile\nshowpage\n%%EOF\n",
    "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n%%EOF",
    "html": b"<!doctype html><script>alert(1)</script>",
    "elf": b"\x7fELF\x02\x01\x01" + bytes(200),
    "zip": b"PK\x03\x04" + bytes(100),
    "gzip": b"\x1f\x8b\x08" + bytes(50),
    "script": b"#!/bin/sh\ntouch canary\n",
    "pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch canary\x85R.",
    "icns": b"icns" + struct.pack(">I", 2**31),
    "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, HUGE, HUGE, 8, 3),
    "wmf": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "fits": b"SIMPLE  =                    T" + b" " * 2850,
    "nothing": b"",
    "one-byte": b"\xff",
    "nulls": bytes(10_000),
}


def cases(rng: random.Random) -> Iterator[Case]:
    """Yield the cases of this kind."""
    yield from _damaged(rng)
    for name, data in POSING.items():
        for ending in ("png", "jpg"):
            yield _decoded(f"{name}-as-{ending}", f"a.{ending}", content(f"a.{ending}", data))
    for number, (ending, data) in enumerate(_bombs()):
        yield _decoded(f"bomb-{number}-{ending}", f"a.{ending}", content(f"a.{ending}", data))
    for name, make in _large().items():
        yield _decoded(name, "a.png", make)
    for name, data in _metadata(rng).items():
        ending = name.split("-")[0]
        yield _decoded(f"metadata-{name}", f"a.{ending}", content(f"a.{ending}", data))
    for name, make in _odd_files().items():
        yield _decoded(name, "a.png", make)
        use = command("predict", "model", "a.png")
        yield Case(f"{name}-predicted", make, use, "a.png")
    yield Case("folder-of-all", _folder_of_all, command("predict", "model", "photos", "--format", "csv"))


def _decoded(name: str, file: str, make: Callable[[Path], object]) -> Case:
    return Case(name, make, decode(file), file)


def _damaged(rng: random.Random) -> Iterator[Case]:
    """Every format cut at each tenth, and with flipped bits."""
    for ending in KINDS:
        whole = encoded(ending)
        for tenth in range(1, 10):
            cut = whole[: len(whole) * tenth // 10]
            yield _decoded(f"{ending}-cut-at-{tenth}0", f"a.{ending}", content(f"a.{ending}", cut))
        for number in range(4):
            flipped = bytearray(whole)
            for _ in range(8):
                flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            yield _decoded(
                f"{ending}-flipped-{number}", f"a.{ending}", content(f"a.{ending}", bytes(flipped))
            )


def encoded(ending: str, size: tuple[int, int] = (48, 40), **options: object) -> bytes:
    """Return a drawing as a file."""
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    file = io.BytesIO()
    image.save(file, KINDS[ending], **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(*chunks: bytes, size: tuple[int, int] = (4, 4), colour: int = 2) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks)


def _pixels(width: int = 4, height: int = 4) -> bytes:
    return _chunk(b"IDAT", zlib.compress((b"\0" + bytes(3 * width)) * height)) + _chunk(b"IEND", b"")


def _tiff(entries: list[tuple[int, int, int, int]], after: int = 0, tail: bytes = b"") -> bytes:
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + struct.pack("<I", after) + tail


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that claim to be huge, or that become so."""
    line = zlib.compress(bytes(10_000_000), 9)
    yield "png", _png(_chunk(b"IDAT", line), size=(HUGE, HUGE))
    yield "png", _png(_chunk(b"IDAT", line), size=(2**31 - 1, 2**31 - 1))
    yield "png", _png(_chunk(b"IDAT", line), size=(2**31 - 1, 1))
    yield "png", _png(_pixels(), size=(0, 0))
    yield "png", _png(_pixels(), size=(0, 5))
    yield "png", _png(_chunk(b"IDAT", zlib.compress(bytes(50_000_000), 9)))  # more data than pixels
    yield (
        "gif",
        b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
    )
    yield "gif", b"GIF89a" + bytes(7) + b";"
    yield "bmp", b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, HUGE, HUGE, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "bmp", b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, -5, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0)
    yield "webp", b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\xff" * 2 + b"VP8L" + bytes(8)
    yield "ppm", f"P6 {HUGE} {HUGE} 255\n".encode()
    yield "ppm", b"P6 " + b"9" * 5000 + b" 1 255\n"
    yield "ppm", b"P3 2 2 255\n" + b"9" * 100_000
    yield "ppm", b"Pf\n9 9\n" + b"1" * 400 + b"\n"
    size = [
        (256, 4, 1, HUGE),
        (257, 4, 1, HUGE),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
    ]
    yield "tiff", _tiff([*size, (273, 4, 1, 0), (278, 4, 1, HUGE), (279, 4, 1, 2**32 - 1)])
    yield "tiff", _tiff([*size[2:], (256, 4, 1, 9), (257, 4, 1, 9), (273, 4, 2**31, 8), (279, 4, 2**31, 8)])
    yield "tiff", _tiff([(256, 4, 1, 9), (257, 4, 1, 9), *size[2:], (273, 4, 1, 0)], after=8)  # leads back
    yield "tiff", b"MM\0\x2b\0\x08\0\0" + struct.pack(">Q", 2**60)  # BigTIFF
    jpeg = encoded("jpg")
    place = jpeg.index(b"\xff\xc0") + 5
    yield "jpg", jpeg[:place] + struct.pack(">HH", 65_500, 65_500) + jpeg[place + 4 :]
    yield "jpg", jpeg[:place] + bytes(4) + jpeg[place + 4 :]
    yield "jpg", b"\xff\xd8" + (b"\xff\xe1\xff\xff" + bytes(65_533)) * 50 + jpeg[2:]
    jp2 = encoded("jp2")
    place = jp2.index(b"ihdr") + 4
    yield "jp2", jp2[:place] + struct.pack(">II", HUGE, HUGE) + jp2[place + 8 :]
    place = jp2.index(b"\xff\x51") + 6
    yield "jp2", jp2[:place] + struct.pack(">II", 2**31, 2**31) + jp2[place + 8 :]
    avif = encoded("avif")
    place = avif.index(b"ispe") + 8
    yield "avif", avif[:place] + struct.pack(">II", HUGE, HUGE) + avif[place + 8 :]


def _large() -> dict[str, Callable[[Path], object]]:
    """Real images of awkward shapes, up to the size that is still read."""

    def saved(mode: str, size: tuple[int, int], kind: str = "PNG") -> Callable[[Path], object]:
        return lambda folder: Image.new(mode, size, 1).save(folder / "a.png", kind, compress_level=1)

    def animated(kind: str, count: int) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            first, *rest = (Image.new("P", (8, 8), number % 256) for number in range(count))
            first.save(folder / "a.png", kind, save_all=True, append_images=rest)

        return make

    return {
        "one-pixel": saved("RGB", (1, 1)),
        "100000-wide": saved("RGB", (100_000, 1)),
        "100000-high": saved("RGB", (1, 100_000)),
        "100000-high-grey-alpha": saved("LA", (1, 100_000)),
        "largest-bits": saved("1", (9_459, 9_459)),
        "largest-grey": saved("L", (9_459, 9_459)),
        "largest-colour": saved("RGB", (9_459, 9_459)),
        "largest-transparent": saved("RGBA", (9_459, 9_459)),
        "largest-16-bit": saved("I;16", (9_459, 9_459)),
        "too-large-by-one": saved("1", (9_460, 9_460)),
        "40000-squared-bits": saved("1", (40_000, 40_000)),
        "animated-gif-3000": animated("GIF", 3000),
        "animated-png-1000": animated("PNG", 1000),
        "float": lambda folder: Image.new("F", (5, 5), float("nan")).save(folder / "a.png", "TIFF"),
    }


def _metadata(rng: random.Random) -> dict[str, bytes]:
    """Images that are fine but for what is said about them."""
    bomb = zlib.compress(bytes(50_000_000), 9)
    cyclic = b"Exif\0\0" + _tiff([(0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0x0112, 3, 1, 6)], after=8)
    long = b"Exif\0\0" + _tiff([(0x010E, 2, 2**32 - 1, 8), (0x0112, 3, 2**31, 8)])
    turned = b"Exif\0\0" + _tiff([(0x0112, 3, 1, 99)])
    many = b"Exif\0\0" + _tiff([(number, 4, 1, 0) for number in range(5000)])
    xmp = b'<x:xmpmeta><r tiff:Orientation="9"/>' + b"<a>" * 10_000
    noise = rng.randbytes(3000)
    return {
        "png-text-bomb": _png(_chunk(b"zTXt", b"k\0\0" + bomb), _pixels()),
        "png-international-text-bomb": _png(_chunk(b"iTXt", b"k\0\1\0\0\0" + bomb), _pixels()),
        "png-profile-bomb": _png(_chunk(b"iCCP", b"k\0\0" + bomb), _pixels()),
        "png-many-texts": _png(_chunk(b"tEXt", b"k\0" + bytes(1000)) * 5000, _pixels()),
        "png-exif-cyclic": _png(_chunk(b"eXIf", cyclic[6:]), _pixels()),
        "png-exif-huge-counts": _png(_chunk(b"eXIf", long[6:]), _pixels()),
        "png-xmp": _png(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), _pixels()),
        "png-chunk-of-4-gb": _png(struct.pack(">I", 2**32 - 1) + b"tEXt", _pixels()),
        "png-wrong-checksum": _png(_pixels()[:-2]),
        "png-palette-missing": _png(_pixels(), colour=3),
        "jpg-exif-cyclic": encoded("jpg", exif=cyclic),
        "jpg-exif-huge-counts": encoded("jpg", exif=long),
        "jpg-exif-of-no-orientation": encoded("jpg", exif=turned),
        "jpg-exif-5000-tags": encoded("jpg", exif=many[:65_000]),
        "jpg-exif-noise": encoded("jpg", exif=b"Exif\0\0" + noise),
        "jpg-profile-noise": encoded("jpg", icc_profile=noise * 50),
        "webp-exif-noise": encoded("webp", exif=noise),
        "webp-xmp-noise": encoded("webp", xmp=noise),
        "tiff-profile-noise": encoded("tiff", icc_profile=noise),
    }


def _odd_files() -> dict[str, Callable[[Path], object]]:
    """What has the name of an image and is no file of reasonable size."""

    def sparse(folder: Path) -> None:
        with (folder / "a.png").open("wb") as file:
            file.truncate(1 << 40)

    return {
        "terabyte": sparse,
        "pipe": lambda folder: os.mkfifo(folder / "a.png"),
        "endless-device": lambda folder: (folder / "a.png").symlink_to("/dev/zero"),
        "link-to-itself": lambda folder: (folder / "a.png").symlink_to("a.png"),
        "link-to-nothing": lambda folder: (folder / "a.png").symlink_to("gone"),
        "folder": lambda folder: (folder / "a.png").mkdir(),
    }


def _folder_of_all(folder: Path) -> None:
    """One folder of many bad files and a good one, which is predicted."""
    (folder / "photos").mkdir()
    (folder / "photos" / "good.png").write_bytes(encoded("png"))
    for number, data in enumerate(POSING.values()):
        (folder / "photos" / f"{number}.jpg").write_bytes(data)
    for name in ("\x1b[31mred.png", "a\nb.png", "=cmd.png", "\u202egpj.png", "[bold]x.png", ":heart:.png"):
        (folder / "photos" / name).write_bytes(encoded("png"))
    os.symlink("good.png", folder / "photos" / "link.png")
