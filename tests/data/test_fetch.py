"""Datasets from a mirror on this machine to trees that pass `data check`, whatever happens on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from cocoop.data.benchmark import fetch as module
from cocoop.data.benchmark import imagenet_archives as imagenet
from cocoop.data.benchmark.check import check
from cocoop.data.benchmark.download import Unusable
from cocoop.data.benchmark.fetch import DOWNLOADS, fetch, lacks
from cocoop.data.benchmark.remote import Download, Remote
from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.benchmark.wordnet import class_names_text
from cocoop.data.datasets import DATASETS
from cocoop.errors import CocoopError
from tests.mirrors import Mirror, register, serving, small, stock, tar
from tests.trees import spec

PETS = "oxford_pets"
ALL = [name for name in DATASETS.names() if isinstance(DATASETS.get(name), Benchmark)]


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with serving() as served:
        stock(served, [PETS], tmp_path / "made")
        yield served


@pytest.fixture
def pets(mirror: Mirror) -> Benchmark:
    return small(PETS, mirror.url, mirror.files)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Benchmark]], None]:
    DATASETS.names()
    monkeypatch.setattr(DATASETS, "_objects", dict(DATASETS._objects))
    return register


def get(facts: Benchmark, root: Path, **options) -> list[str]:
    root.mkdir(exist_ok=True)
    return fetch(lacks(facts, root), root, wait=0.001, **options).get(facts.name, [])


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and DOWNLOADS not in path.parts
    }


def test_all_fifteen_through_a_broken_connection_and_a_kill_each(
    tmp_path: Path, registered: Callable[[dict[str, Benchmark]], None]
) -> None:
    root, made = tmp_path / "root", tmp_path / "made"
    root.mkdir()
    with serving() as served:
        stock(served, ALL, made)
        served.plans = {path: ["break", "hang"] for path in served.files}
        listing = tmp_path / "files.json"
        listing.write_text(json.dumps({path: data.hex() for path, data in served.files.items()}))
        command = [sys.executable, "-m", "tests.mirrors", str(root), served.url, str(listing), str(made)]
        with subprocess.Popen(command) as process:
            deadline = time.monotonic() + 60
            while any(served.plans.values()) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.2)  # what was sent arrives
            process.send_signal(signal.SIGKILL)
        assert not any(served.plans.values())
        parts = list((root / DOWNLOADS).glob("*/*.part"))
        assert len(parts) == len(served.files)
        served.going.set()
        before = len(served.requests)
        subprocess.run(command, check=True, timeout=60)
        again = served.requests[before:]
    assert len(again) == len(served.files)
    assert all(asked for _, asked in again), "every file goes on where it was"
    registered({name: small(name, served.url, served.files) for name in ALL})
    for name in ALL:
        result = check(name, root, read=True)
        assert result.usable, (name, [each.text for each in result.findings if each.level == "problem"])
        found, expected = tree(root / spec(name).folder), tree(made / name / spec(name).folder)
        if name == "imagenet":  # validation images have numbers for names
            assert len(found) == len(expected)
        else:
            assert expected.items() <= found.items()
    assert not list(root.rglob("*.part*"))
    assert not list(root.rglob(module.STAGE))


def test_what_is_there_is_left_alone(pets: Benchmark, mirror: Mirror, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert get(pets, root) == []
    asked = len(mirror.requests)
    (root / "oxford_pets" / "images" / "own.txt").write_text("mine")
    assert lacks(pets, root) == []
    (root / "oxford_pets" / "split_zhou_OxfordPets.json").unlink()
    assert get(pets, root) == []
    assert len(mirror.requests) == asked + 1
    assert (root / "oxford_pets" / "images" / "own.txt").exists()


def test_the_next_source_is_tried(pets: Benchmark, mirror: Mirror, tmp_path: Path) -> None:
    good = pets.downloads[0].choices[0][0]
    mirror.files["page"] = b"<html>"
    mirror.plans["page"] = ["html"] * 9
    mirror.files["empty.tar"] = tar({"nothing/1.jpg": b"1"})
    mirror.files["bad.tar"] = tar({"images/../../../1.jpg": b"1"})
    bad = tuple(Remote(f"{mirror.url}{name}") for name in ("absent", "page", "empty.tar", "bad.tar"))
    facts = replace(pets, downloads=(replace(pets.downloads[0], sources=(*bad, good)),))
    assert get(facts, tmp_path / "root") == []
    assert not list((tmp_path / "root" / DOWNLOADS / PETS).iterdir())
    (problem,) = get(replace(pets, downloads=(replace(pets.downloads[0], sources=bad),)), tmp_path / "other")
    for words in ("answers 404", "web page", "holds no images", "leads out", pets.source):
        assert words in problem
    assert set(tree(tmp_path / "other")) == {"oxford_pets/split_zhou_OxfordPets.json"}


def test_several_archives_together(pets: Benchmark, mirror: Mirror, tmp_path: Path) -> None:
    mirror.files |= {"one.tar": tar({"a/1.jpg": b"1"}), "two.tar": tar({"b/2.jpg": b"2"})}
    both = tuple(Remote(f"{mirror.url}{name}.tar") for name in ("one", "two"))
    facts = replace(pets, downloads=(Download({"a": "a", "b": "b"}, (both,)),))
    assert get(facts, tmp_path / "root") == []
    assert {"oxford_pets/a/1.jpg", "oxford_pets/b/2.jpg"} <= set(tree(tmp_path / "root"))


def test_a_split_file_must_be_one(pets: Benchmark, mirror: Mirror, tmp_path: Path) -> None:
    """Where no digest is known, the form is looked at."""
    mirror.files["odd.json"] = b'{"train": []}'
    (file,) = pets.labels.files
    odd = Remote(f"{mirror.url}odd.json")
    labels = replace(pets.labels, files=(replace(file, remotes=(odd, *file.remotes)),))
    assert get(replace(pets, labels=labels), tmp_path / "root") == []
    labels = replace(pets.labels, files=(replace(file, remotes=(odd,)),))
    (problem,) = get(replace(pets, labels=labels), tmp_path / "other")
    assert "lacks the list(s)" in problem


def test_archives_can_be_kept_or_given(pets: Benchmark, mirror: Mirror, tmp_path: Path) -> None:
    assert get(pets, tmp_path / "root", keep=True) == []
    kept = tmp_path / "root" / DOWNLOADS / PETS / "images.tar.gz"
    mirror.plans[f"{PETS}/archive"] = ["404"] * 9
    assert get(pets, tmp_path / "again", archives=kept.parent) == []
    assert kept.exists(), "what was given is not ours to delete"
    kept.write_bytes(b"another")
    (problem,) = get(pets, tmp_path / "third", archives=kept.parent)
    assert "has 7 bytes, not" in problem


def test_the_disk_is_looked_at_first(
    pets: Benchmark, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    with pytest.raises(CocoopError, match="GB are needed"):
        get(pets, tmp_path / "root")
    assert not mirror.requests


def test_one_call_at_a_time(pets: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "root" / DOWNLOADS).mkdir(parents=True)
    with FileLock(tmp_path / "root" / DOWNLOADS / "lock"), pytest.raises(CocoopError, match="another"):
        get(pets, tmp_path / "root")


def test_what_a_person_stops_is_kept(
    pets: Benchmark, mirror: Mirror, tmp_path: Path, interruptible: None
) -> None:
    mirror.plans[f"{PETS}/archive"] = ["break"]

    def interrupt(name: str, doing: str, count: int) -> None:
        if doing == "unpacking":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        get(pets, tmp_path / "root", watch=interrupt)
    assert not (tmp_path / "root" / "oxford_pets" / "images").exists(), "half of the images are none"
    assert get(pets, tmp_path / "root") == []
    assert len(tree(tmp_path / "root" / "oxford_pets")) == 3 * pets.classes + 1


def test_imagenet_explains_itself(tmp_path: Path) -> None:
    (problem,) = get(replace(spec("imagenet"), labels=replace(spec("imagenet").labels, files=())), tmp_path)
    for words in (imagenet.TRAIN, imagenet.VAL, imagenet.DEVKIT, "account", "--archives"):
        assert words in problem


@pytest.mark.parametrize("damage", [imagenet.TRAIN, imagenet.VAL, imagenet.DEVKIT])
def test_damaged_archives_of_imagenet(damage: str, mirror: Mirror, tmp_path: Path) -> None:
    stock(mirror, ["imagenet"], tmp_path / "made")
    facts = small("imagenet", mirror.url, mirror.files)
    (tmp_path / "made" / damage).write_bytes(tar({"../x.tar": b"1", "x/y/z": b"2"}))
    (problem,) = get(facts, tmp_path / "root", archives=tmp_path / "made")
    assert "ImageNet" in problem
    assert set(tree(tmp_path / "root")) == {"imagenet/classnames.txt"}
    with pytest.raises(Unusable):
        imagenet.validation_wnids(tmp_path / "made" / imagenet.VAL)


def test_class_names_of_imagenet() -> None:
    lines = class_names_text().splitlines()
    assert lines[0] == "n01440764 tench"
    assert lines[-1] == "n15075141 toilet paper"
    assert len(lines) == 1000
    assert lines == sorted(lines)


@pytest.mark.parametrize("name", ALL)
def test_what_is_declared(name: str) -> None:
    """Facts about real addresses that can be held without a network."""
    facts = spec(name)
    assert facts.terms
    assert bool(facts.downloads) != bool(facts.by_hand)
    remotes = [remote for each in facts.downloads for choice in each.choices for remote in choice]
    remotes += facts.by_hand.files if facts.by_hand else ()
    for first in (each.choices[0] for each in facts.downloads):
        assert all(remote.size and (remote.sha256 or remote.md5) for remote in first), "the first is known"
    for remote in (*remotes, *(remote for file in facts.labels.files for remote in file.remotes)):
        assert remote.url.startswith(("https://", "http://ai.stanford.edu/"))
        assert remote.name
        assert "/" not in remote.name
        assert len(remote.sha256) in (0, 8, 64)
        assert len(remote.md5) in (0, 32)
    for file in facts.labels.files:
        assert file.remotes or file.made or any(file.name in each.places.values() for each in facts.downloads)
