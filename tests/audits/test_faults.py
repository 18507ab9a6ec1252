"""The short forms of the fault runs in audits/: kills, damaged files, disks, clocks, two writers."""

from pathlib import Path

import pytest
from pydantic import BaseModel

import cocoop
from audits import corruption, disturbances, killed_writers
from cocoop.estimator.card import ModelInfo
from cocoop.utils import assets as embedded
from cocoop.utils.files import checked_json, read_checked_json


def test_what_a_killed_writer_leaves_is_whole() -> None:
    found = killed_writers.run(kills=2, seed=0)
    assert len(found) == 6
    assert [problem for problems in found.values() for problem in problems] == []


def test_damaged_files_never_give_other_values() -> None:
    found, wrong = corruption.run(flips=4, seed=0)
    assert wrong == []
    assert len(found) == 13
    noticed = {name: counts.total() - counts[corruption.SAME] for name, counts in found.items()}
    assert min(noticed.values()) >= 6  # cutting a file off is noticed, but for the last lines of a list


def test_disturbed_runs_end_with_the_same_bytes() -> None:
    found = disturbances.run(every=20, times=1)
    assert [problem for _, problems in found.values() for problem in problems] == []
    assert min(tried for tried, _ in found.values()) >= 1


class Small(BaseModel):
    number: float
    words: list[str]


def test_a_seal_holds_every_field() -> None:
    text = checked_json(Small(number=0.1, words=["a", "ü"]))
    assert read_checked_json(Small, text.encode()) == Small(number=0.1, words=["a", "ü"])
    for damaged in (
        text.replace("0.1", "0.2"),
        text.replace('"a"', '"b"'),
        text[:-4],
        "[]",
        "",
        "null",
        "{}",
    ):
        with pytest.raises(ValueError, match="was changed or cut off"):
            read_checked_json(Small, damaged.encode())


def test_a_sealed_file_of_another_kind_is_told_from_a_damaged_one() -> None:
    class Other(BaseModel):
        figure: float

    with pytest.raises(ValueError, match=r"not of this version of cocoop \(number: Field required\)"):
        read_checked_json(Small, checked_json(Other(figure=1)).encode())


def test_a_damaged_embedded_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "ASSETS", tmp_path)
    embedded.asset.cache_clear()
    try:
        with pytest.raises(
            cocoop.CocoopError, match=r"food.json is missing or damaged; install cocoop again"
        ):
            embedded.asset("emoji-styles/food.json")
    finally:
        embedded.asset.cache_clear()


def test_a_model_can_be_saved_where_a_save_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    killed_writers.model(0).save(folder)
    (folder / "model.json").unlink()  # it is written last
    (folder / ".model.json.x.tmp").write_text("half")
    killed_writers.model(1).save(folder)
    assert len(list(folder.glob("prompt-*"))) == 1
    assert cocoop.load(folder).info_.prompt.seed == 1


def test_a_model_file_that_says_more_than_it_may_is_no_way_in(tmp_path: Path) -> None:
    killed_writers.model(0).save(tmp_path / "m")
    path = tmp_path / "m" / "model.json"
    facts = read_checked_json(ModelInfo, path.read_bytes())
    facts.params.update(backbone="somewhere/else", system="rm")
    path.write_text(checked_json(facts))
    assert cocoop.load(tmp_path / "m").backbone == "toy"
