"""Features in the background: all of them, those first that are waited for, and what cannot be had."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cocoop.backbones.clip import Backbone
from cocoop.backbones.features import encode_images
from cocoop.deploy.studio import features as module
from cocoop.deploy.studio.features import Features


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    names = [f"{number:02}.png" for number in range(40)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / name)
    return names


@pytest.fixture
def made(toy: Backbone, tmp_path: Path) -> Iterator[Callable[[], Features]]:
    """Makes features that tell of every step; they are stopped at the end."""
    every: list[Features] = []

    def make() -> Features:
        every.append(Features(toy, tmp_path, lambda: None))
        return every[-1]

    yield make
    for each in every:
        each.stop()


def wait(features: Features) -> None:
    done = threading.Event()
    features._changed = lambda: done.set() if not features.left or features.error else None
    features.start()
    assert done.wait(60)


def ids(paths: list[str]) -> list[str]:
    return [f"{number:016x}" for number in range(len(paths))]


def test_all_are_encoded_as_elsewhere(
    made: Callable[[], Features], paths: list[str], toy: Backbone, tmp_path: Path
) -> None:
    features = made()
    features.add(ids(paths[:30]), paths[:30])
    features.add(ids(paths)[30:], paths[30:])
    wait(features)
    expected = encode_images(toy, [tmp_path / path for path in paths])
    torch.testing.assert_close(features.of(range(40)), expected)
    assert (features.known.all(), features.left, features.eta) == (True, 0, 0.0)


def test_those_that_are_waited_for_come_first(
    made: Callable[[], Features], paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST", 4)
    order: list[list[int]] = []
    features = made()
    encode = features._encode
    monkeypatch.setattr(features, "_encode", lambda places: (order.append(list(places)), encode(places))[1])
    features.add(ids(paths), paths)
    features.first([30, 20, 10])
    wait(features)
    assert order[0] == [30, 20, 10, 0]
    assert sorted(place for places in order for place in places) == list(range(40))  # each once
    assert order[1][:3] == [1, 2, 3]  # a person looks at the beginning


def test_what_cannot_be_read_is_said_and_not_kept(
    made: Callable[[], Features], paths: list[str], tmp_path: Path
) -> None:
    (tmp_path / paths[3]).write_bytes(b"no image")
    (tmp_path / paths[5]).unlink()
    features = made()
    features.add(ids(paths), paths)
    wait(features)
    assert set(features.problems) == {3, 5}
    assert "no image" in features.problems[3]
    assert (~features.known).nonzero()[0].tolist() == [3, 5]
    features.stop()
    again = made()
    again.add(ids(paths), paths)
    np.testing.assert_array_equal(again.known, features.known)
    np.testing.assert_array_equal(again.raw, features.raw)
    assert again.left == 2


@pytest.mark.parametrize("damage", [b"", b"other", None])
def test_damaged_features_are_computed_again(
    made: Callable[[], Features], paths: list[str], damage: bytes | None
) -> None:
    features = made()
    features.add(ids(paths), paths)
    wait(features)
    features.stop()
    if damage is None:
        features._file.write_bytes(features._file.read_bytes()[:-40])
    else:
        features._file.write_bytes(damage)
    again = made()
    again.add(ids(paths), paths)
    assert again.left == 40


def test_a_fault_is_told_and_nothing_is_lost(
    made: Callable[[], Features], paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST", 4)
    features = made()
    encode, count = features._encode, [0]

    def breaks(places: list[int]) -> object:
        count[0] += 1
        if count[0] == 2:
            raise MemoryError
        return encode(places)

    monkeypatch.setattr(features, "_encode", breaks)
    features.add(ids(paths), paths)
    wait(features)
    features._thread.join(20)
    assert "out of memory" in features.error
    assert (features.busy, int(features.known.sum())) == (False, 4)
