"""The paper's numbers: consistent in themselves, and beside ours only where they are of the same thing."""

from collections.abc import Iterator

import pandas as pd
import pytest

from cocoop.experiments.aggregate import AVERAGE, harmonic_mean
from cocoop.experiments.cell import Cell
from cocoop.experiments.protocols import PROTOCOLS, Settings
from cocoop.experiments.record import Record
from cocoop.methods._settings import MethodChoice, resolve
from cocoop.report.tables import tables
from cocoop.report.tables.notes import notes
from cocoop.report.tables.published import published
from cocoop.report.tables.results import Results, results

TABLES = published()["tables"]
ELEVEN = tuple(TABLES["base-to-new"]["rows"])
PLAIN = tuple(resolve(name) for name in ("zeroshot", "coop", "cocoop"))


def record(cell: Cell, percent: float) -> Record:
    empty = {
        "metrics": {},
        "class_names": [],
        "lr": [],
        "loss": [],
        "environment": {},
        "files": "",
        "created": "",
    }
    numbers = {"train_images": 0, "parameters": 0, "seconds_per_step": 0, "peak_memory_mb": 0}
    return Record(cell=cell, correct=round(100 * percent), total=10_000, **numbers, **empty)  # type: ignore


def rerun(
    datasets: tuple[str, ...] = ELEVEN,
    methods: tuple[MethodChoice, ...] = PLAIN,
    backbone: str = "ViT-B-16/openai",
    shots: int = 16,
) -> Iterator[Record]:
    """Records with the accuracies of Table 1."""
    settings = Settings(datasets, methods, (1,), shots, backbone, "0")
    for cell in PROTOCOLS.get("base-to-new").cells(settings):
        base, new, _ = TABLES["base-to-new"]["rows"][cell.testing.dataset][cell.training.method]
        yield record(cell, base if cell.testing.subset == "base" else new)


def of(records: Iterator[Record]) -> Results:
    (result,) = results(list(records))
    return result


def has_paper(frame: pd.DataFrame) -> bool:
    return any(name.startswith("paper") for name in frame.columns)


def test_the_harmonic_means_are_those_of_the_accuracies() -> None:
    assert len(ELEVEN) == 11
    for values in TABLES["base-to-new"]["rows"].values():
        for base, new, h in values.values():
            assert harmonic_mean(base, new) == pytest.approx(h, abs=0.01)


def test_both_averages_of_h_are_the_papers() -> None:
    result = of(rerun())
    row = result.frame[(result.frame["dataset"] == AVERAGE) & (result.frame["method"] == "cocoop")].iloc[0]
    for columns in (("base", "new", "H"), ("paper base", "paper new", "paper H")):
        assert [f"{row[name]:.2f}" for name in columns] == ["80.47", "71.69", "75.83"]
    words = " ".join(notes(result.frame, result.records))
    assert "Its average rows: H of its averages." in words
    assert "Mean of its datasets' H instead: zeroshot 71.59, coop 70.83, cocoop 75.44." in words
    assert "CVPR 2022; 16 shots, 3 seeds" in words
    shown = tables.text(result.frame)
    assert set(shown["paper H"]) >= {"75.83", "71.66", "71.70"}


@pytest.mark.parametrize(
    ("protocol", "averages"), [("cross-dataset", (63.88, 65.74)), ("domain-generalization", (59.28, 59.91))]
)
def test_the_averages_of_the_transfer_tables(protocol: str, averages: tuple[float, float]) -> None:
    rows = TABLES[protocol]["rows"].values()
    for method, expected in zip(("coop", "cocoop"), averages, strict=True):
        targets = [row[method][1] for row in rows]
        assert sum(targets) / len(targets) == pytest.approx(expected, abs=0.006)


def test_other_shots_and_backbones_have_no_paper_column() -> None:
    assert not has_paper(of(rerun(backbone="ViT-B-32/openai")).frame)
    assert not has_paper(of(rerun(backbone="ViT-B-16/laion2b_s34b_b88k")).frame)
    assert has_paper(of(rerun(backbone="ViT-B/16/openai")).frame)
    frame = of(rerun(shots=4)).frame
    assert frame["paper H"][frame["method"] != "zeroshot"].isna().all()  # zero-shot needs none


def test_other_settings_have_no_paper_values_but_other_epochs_do() -> None:
    methods = (resolve("coop", None, {"n_ctx": 8}), resolve("cocoop", None, {"epochs": 1}))
    frame = of(rerun(methods=methods)).frame
    assert frame["paper H"][frame["method"] == "coop (n_ctx=8)"].isna().all()
    assert frame["paper H"][frame["method"] == "cocoop (epochs=1)"].notna().all()


def test_an_average_over_some_datasets_is_compared_with_the_same_ones() -> None:
    frame = of(rerun(datasets=("dtd", "eurosat"))).frame
    row = frame[(frame["dataset"] == AVERAGE) & (frame["method"] == "cocoop")].iloc[0]
    assert row["paper base"] == pytest.approx((77.01 + 87.49) / 2)
    assert row["paper H"] == pytest.approx(harmonic_mean((77.01 + 87.49) / 2, (56.00 + 60.04) / 2))
    assert row["datasets"] == 2
