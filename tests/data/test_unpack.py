"""Archives: what is taken of them, and what those made to do harm can do."""

import io
import tarfile
from pathlib import Path

import pytest

from cocoop.data.benchmark import unpack as module
from cocoop.data.benchmark.download import Unusable
from cocoop.data.benchmark.unpack import unpack
from tests.mirrors import tar, zipped


def unpacked(archive: Path, places: dict[str, str], folder: Path, within: str = "") -> dict[str, bytes]:
    unpack(archive, places, folder, within)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("pack", [tar, zipped, lambda files: tar(files, "w:gz")])
def test_only_what_is_wanted_is_taken_wherever_it_is(pack, tmp_path: Path) -> None:
    files = {
        "./data-2/images/cat/1.jpg": b"1",
        "data-2/list.txt": b"2",
        "data-2/code/run.py": b"3",
        "__MACOSX/data-2/images/cat/1.jpg": b"4",
        "data-2/images/cat/._1.jpg": b"5",
    }
    (tmp_path / "a").write_bytes(pack(files))
    got = unpacked(tmp_path / "a", {"images": "pictures", "list.txt": "list.txt"}, tmp_path / "out")
    assert got == {"pictures/cat/1.jpg": b"1", "list.txt": b"2"}


@pytest.mark.parametrize("nested", [True, False])
def test_an_archive_in_an_archive(nested: bool, tmp_path: Path) -> None:
    images = {"images/1.jpg": b"1"}
    files = {"x/inner.tar.gz": tar(images, "w:gz"), "x/other.tar": tar(images)} if nested else images
    (tmp_path / "a").write_bytes(zipped(files))
    assert unpacked(tmp_path / "a", {"images": "images"}, tmp_path / "out", "inner.tar.gz") == images


@pytest.mark.parametrize("pack", [tar, zipped])
@pytest.mark.parametrize(
    "path", ["../images/1.jpg", "/images/1.jpg", "images/../../1.jpg", "images\\..\\1.jpg", "C:images/1.jpg"]
)
def test_paths_that_escape_are_refused_with_the_archive(pack, path: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pack({path: b"1"}))
    with pytest.raises(Unusable, match="leads out of its folder"):
        unpack(tmp_path / "a", {"images": "images"}, tmp_path / "in" / "out")
    assert [each.name for each in tmp_path.rglob("*")] == ["a"]


def test_links_are_not_made_and_not_followed(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("images/there", tarfile.SYMTYPE), ("images/same", tarfile.LNKTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, str(tmp_path / "outside")
            archive.addfile(link)
        member = tarfile.TarInfo("images/there/1.jpg")
        archive.addfile(member, io.BytesIO())
    (tmp_path / "a").write_bytes(out.getvalue())
    (tmp_path / "outside").mkdir()
    assert unpacked(tmp_path / "a", {"images": "images"}, tmp_path / "out") == {"images/there/1.jpg": b""}
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>sign in</html>" * 100,
        tar({"images/1.jpg": b"1" * 2000})[:1500],
        tar({"images/1.jpg": b"1" * 2000}, "w:gz")[:-20],
        zipped({"images/1.jpg": b"1" * 2000}).replace(b"1111", b"1112", 1),
        tar({"images": b"a file", "images/1.jpg": b"in it"}),
        tar({f"images/{'x' * 300}": b"1"}),
    ],
    ids=["empty", "page", "cut tar", "cut gzip", "changed zip", "file for a folder", "long name"],
)
def test_what_is_no_whole_archive(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(Unusable):
        unpack(tmp_path / "a", {"images": "images"}, tmp_path / "out")


def test_an_archive_that_grows_beyond_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALLOWANCE", 1000)
    (tmp_path / "a").write_bytes(tar({f"images/{n}": bytes(10_000) for n in range(9)}, "w:gz"))
    with pytest.raises(Unusable, match="more than 10 times"):
        unpack(tmp_path / "a", {"images": "images"}, tmp_path / "out")
