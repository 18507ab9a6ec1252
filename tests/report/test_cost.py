"""What methods cost beside what they score, and what is said of how they were selected."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from cocoop.experiments.demo import choose
from cocoop.experiments.record import Record
from cocoop.methods import METHODS
from cocoop.report.page import html
from cocoop.report.plots.cost import accuracy_and_cost
from cocoop.report.plots.training_time import training_time
from cocoop.report.show import report
from cocoop.report.tables.blocks import leading
from cocoop.report.tables.cost import costs, shown
from cocoop.report.tables.notes import notes
from cocoop.report.tables.results import Results, results
from tests.report.test_report import frame_of, published, record, store_of


def timed(records: Sequence[Record]) -> list[Record]:
    def change(each: Record) -> Record:
        learned = each.cell.training.learns
        times = {"seconds_to_train": 12.0 if learned else 0.0, "seconds_per_image": 0.0015}
        return each.model_copy(update={**times, "learned_bytes": 2_500_000 if learned else 0})

    return [change(each) for each in records]


def result_of(records: Sequence[Record]) -> Results:
    (result,) = results(records)
    return result


def test_costs_stand_beside_h() -> None:
    frame = costs(result_of(timed(published())))
    assert list(frame.columns) == ["method", "H", "train, s", "answer, ms", "learned", "kept, MB"]
    assert list(frame["method"]) == ["zeroshot", "coop", "cocoop"]
    assert frame["H"].tolist() == pytest.approx([71.70, 71.66, 75.83], abs=0.01)
    assert frame["train, s"].tolist() == [0, 12, 12]
    assert frame["answer, ms"].tolist() == pytest.approx([1.5] * 3)
    assert shown(frame).iloc[2].tolist() == ["cocoop", "75.83", "12", "1.5", "512", "2.5"]
    assert shown(frame).iloc[0].tolist() == ["zeroshot", "71.70", "–", "1.5", "–", "–"]


def test_a_training_is_counted_once() -> None:
    records = timed(published(("coop",)))
    slow = records[0].model_copy(update={"seconds_to_train": 12.0})
    assert costs(result_of([slow, records[1]]))["train, s"].tolist() == [12.0]


def test_the_plot_has_every_method_and_says_who_is_not_trained() -> None:
    result = result_of(timed(published()))
    drawing = accuracy_and_cost(costs(result), {"zeroshot": 0, "coop": 1, "cocoop": 2})
    assert drawing
    assert all(words in drawing for words in ("zeroshot", "cocoop", "no training", "time to train"))
    untrained = costs(result_of(timed(published(("zeroshot",)))))
    assert accuracy_and_cost(untrained, {"zeroshot": 0}) is None


def test_time_an_image_is_that_of_steps_on_images() -> None:
    record = timed(published(("coop",)))[0]
    training = record.cell.training.model_copy(update={"recipe": {"batch_size": 0}})
    whole = record.model_copy(update={"cell": record.cell.model_copy(update={"training": training})})
    drawing = training_time([whole], {"coop": 1})
    assert drawing
    assert "1.56" in drawing  # 50 ms over all 32 images
    assert training_time([whole.model_copy(update={"train_images": 0})], {"coop": 1}) is None


def test_costs_are_printed(tmp_path: Path) -> None:
    store_of(tmp_path, timed(published()))
    for format in ("table", "md"):
        console = Console(record=True, width=120)
        report(tmp_path, format, console)
        text = console.export_text()
        assert "kept, MB" in text
        assert "75.83" in text
    assert "What each method costs" in html.page(store_of(tmp_path / "page", timed(published())))


def test_of_many_methods_the_best_are_looked_at_closely() -> None:
    labels = ["zeroshot", *(f"coop (n_ctx={n})" for n in range(9))]
    records = [
        record(label, half, 60.0 + place if half == "base" else 80.0 - place / 2)  # H follows base
        for place, label in enumerate(labels)
        for half in ("base", "new")
    ]  # fmt: skip
    frame = frame_of(records)
    assert leading(frame, 4) == ["zeroshot", *labels[-3:]]
    assert leading(frame, 20) == list(frame["method"])


def test_notes_say_what_was_selected_on_and_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [
        each.model_copy(update={"selected_on": "few-shot validation, 88 images"})
        if each.cell.training.method == "coop"
        else each
        for each in published()
    ]
    facts = METHODS.get("cocoop").facts
    monkeypatch.setitem(vars(facts), "sees_new_names", True)
    lines = notes(frame_of(records), records)
    assert "Selected on few-shot validation: coop." in lines
    assert "Trained with the names of the new classes too: cocoop." in lines


def test_a_demo_of_all_methods_leaves_out_what_the_protocol_cannot_test() -> None:
    every = choose(["all"], "few-shot", full=False, backbone="toy")
    assert every.left_out == ()
    assert not any(METHODS.get(name).facts.ablation for name in every.methods)
    some = choose(["all"], "base-to-new", full=False, backbone="toy")
    bound = [name for name in every.methods if METHODS.get(name).facts.bound]
    assert list(some.methods) == [name for name in every.methods if name not in bound]
    assert all(name in some.left_out[0] for name in bound)
    assert all(preset.endswith("-quick") for preset in some.presets)
    assert choose(["coop"], "base-to-new", full=True).presets == ()
