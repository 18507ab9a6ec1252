"""Archives of images whose members lead astray, explode or are broken."""

import io
import random
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from audits.hostile.case import Case, content
from audits.hostile.images import encoded
from cocoop.data.dataset import Item
from cocoop.data.decode import open_image
from cocoop.data.verify import require_images
from cocoop.errors import CocoopError

ASTRAY = (
    "../a.png",
    "..\\a.png",
    "/etc/a.png",
    "C:\\a.png",
    "a/../../b.png",
    "a\0b.png",
    "~/a.png",
    "con.png",
)


def cases(rng: random.Random) -> Iterator[Case]:
    """Yield the cases of this kind."""
    for number, name in enumerate(ASTRAY):
        yield _case(f"member-astray-{number}", _archive({name: encoded("png")}), name)
    yield _case("member-twice", _archive({"a.png": encoded("png")}, {"a.png": b"other"}))
    yield _case("member-empty", _archive({"a.png": b""}))
    yield _case("member-folder", _archive({"a.png/": b""}), "a.png/")
    yield _case("member-text", _archive({"a.png": b"text"}))
    yield _case("member-missing", _archive({"b.png": encoded("png")}))
    yield _case("member-link", _link())
    for name, method in {"deflate": 8, "bzip2": 12, "lzma": 14}.items():
        yield _case(f"bomb-{name}", _archive({"a.png": bytes(300_000_000)}, method=method))
    yield _case("encrypted", _patched(b"PK\x01\x02", 8, 1))
    yield _case("unknown-compression", _patched(b"PK\x01\x02", 10, 99))
    yield _case("newer-version", _patched(b"PK\x01\x02", 6, 255))
    yield _case("claims-4-gb", _patched(b"PK\x01\x02", 24, 2**32 - 2, "<I"))
    yield _case("claims-one-byte", _patched(b"PK\x01\x02", 24, 1, "<I"))
    yield _case("wrong-checksum", _patched(b"PK\x01\x02", 16, 12_345, "<I"))
    yield _case("offset-astray", _patched(b"PK\x01\x02", 42, 2**31, "<I"))
    yield _case("million-members-claimed", _patched(b"PK\x05\x06", 10, 65_000))
    whole = _archive({"a.png": encoded("png")})
    for tenth in range(1, 10):
        yield _case(f"cut-at-{tenth}0", whole[: len(whole) * tenth // 10])
    for number in range(4):
        flipped = bytearray(whole)
        for _ in range(6):
            flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        yield _case(f"flipped-{number}", bytes(flipped))
    for name, data in {"text": b"text", "empty": b"", "rar": b"Rar!\x1a\x07", "tar": bytes(10_240)}.items():
        yield _case(f"posing-{name}", data)
    yield _case("inside-an-archive", _archive({"a.png": whole}))
    yield _case("inside-an-image", encoded("png") + whole)


def _case(name: str, data: bytes, member: str = "a.png") -> Case:
    return Case(name, content("images.zip", data), _use(member), "images.zip")


def _use(member: str) -> Callable[[Path], object]:
    """Check a list of images and then read one, as a run does."""

    def use(folder: Path) -> object:
        root = folder / "images.zip"
        wrong = None
        try:
            require_images(root, [Item(member, 0, "a")], read=True)
        except CocoopError as error:
            wrong = error
        try:
            size = open_image(root, member).size
        except CocoopError:
            assert wrong, "the check passed what cannot be read"
            raise
        assert not wrong, "the check refused what can be read"
        return size

    return use


def _archive(*parts: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method, compresslevel=1) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for part in parts:
            for name, data in part.items():
                archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def _link() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("a.png")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return file.getvalue()


def _patched(mark: bytes, offset: int, value: int, form: str = "<H") -> bytes:
    """Return an archive with a number of its directory overwritten."""
    data = bytearray(_archive({"a.png": encoded("png")}))
    struct.pack_into(form, data, data.index(mark) + offset, value)
    return bytes(data)
