"""A sample of the test images: the same each time, and never taken for all of them."""

import json

import pytest

import cocoop
from cocoop.errors import UsageError
from cocoop.experiments import cell
from cocoop.experiments.aggregate import disambiguate
from cocoop.experiments.protocols import PROTOCOLS, Settings
from cocoop.methods._settings import resolve
from cocoop.utils.files import digest
from tests.report.test_published import record

FOOD = cocoop.open_dataset("emoji/food")


def settings(sample: int = 0, **others) -> Settings:
    return Settings(
        ("a", "b"), (resolve("zeroshot"), resolve("coop")), (1,), 2, "toy", "0", sample=sample, **others
    )


def test_a_sample_is_drawn_once_and_for_all() -> None:
    whole = cell.Testing(dataset="emoji/food", subset="new", candidates="new")
    few = whole.model_copy(update={"sample": 10})
    items, names = few.choose(FOOD)
    assert len(items) == 10
    assert (items, names) == few.choose(FOOD)
    everything = whole.choose(FOOD)[0]
    places = [everything.index(item) for item in items]
    assert places == sorted(places)
    assert few.model_copy(update={"sample": 10**6}).choose(FOOD)[0] == everything


def test_keys_of_whole_tests_are_what_they_were() -> None:
    """Run folders from before there were samples are still finished."""
    whole, *_ = PROTOCOLS.get("base-to-new").cells(settings())
    test = {"dataset": "a", "subset": "base", "candidates": "base", "split": "test"}
    content = ["base-to-new", whole.training.key, test]
    assert whole.key == digest(json.dumps(content, sort_keys=True))[:16]
    few, *_ = PROTOCOLS.get("base-to-new").cells(settings(10))
    assert few.key != whole.key
    assert few.training.key == whole.training.key


def test_every_protocol_takes_samples() -> None:
    for name in ("base-to-new", "cross-dataset", "class-incremental", "few-shot"):
        protocol = PROTOCOLS.get(name)
        cells = protocol.cells(settings(10))
        assert {cell.testing.sample for cell in cells} == {10}
        records = [record(cell, 50) for cell in cells]
        assert not protocol.table(records).empty, name


def test_samples_and_all_images_are_told_apart() -> None:
    cells = [PROTOCOLS.get("base-to-new").cells(settings(sample))[0] for sample in (0, 10)]
    labels = [each.cell.training.label for each in disambiguate([record(cell, 50) for cell in cells])]
    assert labels == ["zeroshot (all test images)", "zeroshot (10 test images)"]


def test_no_negative_samples() -> None:
    with pytest.raises(UsageError, match="at least 1 image"):
        settings(-1)
