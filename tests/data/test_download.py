"""One file from a server that breaks off, lies, moves, hides behind web pages and has other versions."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cocoop.data.benchmark.download import Stopped, Unusable, download, verify
from cocoop.data.benchmark.remote import Remote
from cocoop.utils.files import data_digest
from tests.mirrors import Mirror, serving

DATA = bytes(range(256)) * 800


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving() as served:
        served.files["a.tar"] = DATA
        yield served


def known(mirror: Mirror) -> Remote:
    return Remote(f"{mirror.url}a.tar", len(DATA), data_digest(DATA))


def get(remote: Remote, path: Path) -> int:
    """Return how many bytes were told of."""
    told: list[int] = []
    download(remote, path, told.append, threading.Event(), wait=0.001)
    assert path.read_bytes() == DATA
    assert [each.name for each in path.parent.iterdir()] == [path.name], "nothing else is left"
    return sum(told)


def test_a_file(mirror: Mirror, tmp_path: Path) -> None:
    assert get(known(mirror), tmp_path / "deep" / "a.tar") == len(DATA)
    assert mirror.requests == [("a.tar", "")]


def test_it_goes_on_where_it_broke_off(mirror: Mirror, tmp_path: Path) -> None:
    mirror.plans["a.tar"] = ["break", "503", "break"]
    assert get(known(mirror), tmp_path / "a.tar") == len(DATA)
    half, more = len(DATA) // 2, len(DATA) // 2 + len(DATA) // 4
    assert [asked for _, asked in mirror.requests] == [
        "",
        f"bytes={half}-",
        f"bytes={half}-",
        f"bytes={more}-",
    ]


@pytest.mark.parametrize("change", ["other", "anonymous"])
def test_no_two_versions_are_mixed(change: str, mirror: Mirror, tmp_path: Path) -> None:
    """Where the file has another version by then, or no name of its version is known, it begins anew."""
    mirror.plans["a.tar"] = ["anonymous"] if change == "anonymous" else ["break", "other"]
    assert get(Remote(f"{mirror.url}a.tar"), tmp_path / "a.tar") == len(DATA)


@pytest.mark.parametrize("lie", ["more", "less"])
def test_lies_about_the_size(lie: str, mirror: Mirror, tmp_path: Path) -> None:
    mirror.plans["a.tar"] = [lie]
    with pytest.raises(Unusable, match=r"bytes, not 204,800"):
        get(known(mirror), tmp_path / "a.tar")
    assert not (tmp_path / "a.tar").exists()


def test_a_size_that_only_the_server_tells(mirror: Mirror, tmp_path: Path) -> None:
    remote = Remote(f"{mirror.url}a.tar", sha256=data_digest(DATA))
    mirror.plans["a.tar"] = ["less"]
    with pytest.raises(Unusable, match="has the sha256"):
        get(remote, tmp_path / "a.tar")
    mirror.plans["a.tar"] = ["more"]
    assert get(remote, tmp_path / "a.tar") == len(DATA), "asked for the rest, it says that there is none"


def test_another_size_is_refused_before_it_is_read(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"has 204,800 bytes, not 17"):
        get(Remote(f"{mirror.url}a.tar", 17), tmp_path / "a.tar")
    assert not (tmp_path / "a.tar.part").exists()


@pytest.mark.parametrize("field", ["sha256", "md5"])
def test_another_content_is_not_kept(field: str, mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=f"has the {field} .* not 00000000"):
        get(Remote(f"{mirror.url}a.tar", **{field: "0" * 32}), tmp_path / "a.tar")
    assert not list(tmp_path.iterdir())


def test_first_digits_of_a_digest_will_do(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    verify(Remote("http://nowhere/a", sha256=data_digest(DATA)[:8]), tmp_path / "a")


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("html", "web page instead of a.tar"),
        ("404", "answers 404"),
        ("loop", "answers 302"),
        ("elsewhere", "another part"),
    ],
)
def test_what_is_no_file(plan: str, words: str, mirror: Mirror, tmp_path: Path) -> None:
    mirror.plans["a.tar"] = ["break", plan]
    with pytest.raises(Unusable, match=words):
        get(known(mirror), tmp_path / "a.tar")
    assert (tmp_path / "a.tar.part").stat().st_size == len(DATA) // 2, "what is good stays"
    mirror.plans["a.tar"] = []
    assert get(known(mirror), tmp_path / "a.tar") == len(DATA)


def test_redirections_are_followed(mirror: Mirror, tmp_path: Path) -> None:
    mirror.plans["a.tar"] = ["moved"]
    get(known(mirror), tmp_path / "a.tar")


def test_a_range_that_is_not_there_begins_anew_once(mirror: Mirror, tmp_path: Path) -> None:
    mirror.plans["a.tar"] = ["break", "416"]
    assert get(known(mirror), tmp_path / "a.tar") == len(DATA)
    mirror.plans["a.tar"] = ["break", "416", "break", "416"]
    with pytest.raises(Unusable, match="416"):
        get(known(mirror), tmp_path / "b.tar")


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="cannot be reached"):
        get(Remote("http://127.0.0.1:9/a.tar"), tmp_path / "a.tar")


def test_it_can_be_stopped(mirror: Mirror, tmp_path: Path) -> None:
    stop = threading.Event()
    mirror.files["a.tar"] = DATA * 20
    with pytest.raises(Stopped):
        download(Remote(f"{mirror.url}a.tar"), tmp_path / "a.tar", lambda count: stop.set(), stop)
    assert (tmp_path / "a.tar.part").stat().st_size > 0
    mirror.files["a.tar"] = DATA
    mirror.plans["a.tar"] = ["503"]
    with pytest.raises(Stopped):
        download(known(mirror), tmp_path / "b.tar", lambda count: None, stop)


def test_a_disk_that_is_full_is_no_fault_of_the_server(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").mkdir()
    with pytest.raises(OSError, match="directory"):
        get(known(mirror), tmp_path / "a.tar")
    assert len(mirror.requests) == 1
