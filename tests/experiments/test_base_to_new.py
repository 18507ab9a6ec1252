"""The protocol's cells and arithmetic."""

import pytest

from cocoop.errors import UsageError
from cocoop.experiments.aggregate import harmonic_mean
from cocoop.experiments.cell import Cell
from cocoop.experiments.protocols import PROTOCOLS, Settings
from cocoop.experiments.record import Record
from cocoop.methods._settings import resolve
from cocoop.report.tables import tables
from cocoop.report.tables.notes import notes

PROTOCOL = PROTOCOLS.get("base-to-new")

# Table 1 of the paper: base and new accuracy of CoCoOp on the eleven datasets
PUBLISHED = {
    "ImageNet": (75.98, 70.43, 73.10),
    "Caltech101": (97.96, 93.81, 95.84),
    "OxfordPets": (95.20, 97.69, 96.43),
    "StanfordCars": (70.49, 73.59, 72.01),
    "Flowers102": (94.87, 71.75, 81.71),
    "Food101": (90.70, 91.29, 90.99),
    "FGVCAircraft": (33.41, 23.71, 27.74),
    "SUN397": (79.74, 76.86, 78.27),
    "DTD": (77.01, 56.00, 64.85),
    "EuroSAT": (87.49, 60.04, 71.21),
    "UCF101": (82.33, 73.45, 77.64),
}


def settings(**changes: object) -> Settings:
    methods = tuple(resolve(name) for name in ("zeroshot", "coop", "cocoop"))
    values = {"datasets": ("a", "b"), "methods": methods, "seeds": (0, 1), "shots": 16} | changes
    return Settings(backbone="toy", weights="0", **values)  # type: ignore[arg-type]


def record(cell: Cell, percent: float) -> Record:
    return Record(
        cell=cell,
        correct=round(percent * 100),
        total=10_000,
        metrics={},
        class_names=[],
        train_images=0,
        parameters=0,
        lr=[],
        loss=[],
        seconds_per_step=0,
        peak_memory_mb=0,
        files="",
        environment={},
        created="",
    )


def test_one_prompt_is_tested_on_both_halves() -> None:
    cells = PROTOCOL.cells(settings())
    assert len(cells) == 2 * (1 + 2 + 2) * 2  # zero-shot once, not once a seed
    assert len({cell.key for cell in cells}) == len(cells)
    assert len({cell.training.key for cell in cells}) == len(cells) / 2
    assert {cell.training.subset for cell in cells if cell.training.recipe} == {"base"}
    assert {cell.testing.subset for cell in cells} == {"base", "new"}


def test_a_key_depends_on_every_setting() -> None:
    def key(**changes: object) -> str:
        return PROTOCOL.cells(settings(datasets=("a",), seeds=(0,), **changes))[0].key

    variants = [
        key(methods=(resolve("cocoop"),)),
        key(methods=(resolve("cocoop", "cocoop-quick"),)),
        key(methods=(resolve("cocoop", None, {"n_ctx": 8}),)),
        key(methods=(resolve("coop"),)),
        key(methods=(resolve("coop"),), shots=4),
    ]
    assert len(set(variants)) == len(variants)


def test_published_harmonic_means() -> None:
    for base, new, h in PUBLISHED.values():
        assert harmonic_mean(base, new) == pytest.approx(h, abs=0.01)
    assert harmonic_mean(0.0, 0.0) == 0.0


def test_the_average_row_is_the_papers() -> None:
    cells = PROTOCOL.cells(settings(datasets=tuple(PUBLISHED), methods=(resolve("cocoop"),), seeds=(1,)))
    half = {"base": 0, "new": 1}
    records = [record(cell, PUBLISHED[cell.testing.dataset][half[cell.testing.subset]]) for cell in cells]
    frame = PROTOCOL.table(records)
    (average,) = frame[frame["dataset"] == "average"].to_dict("records")
    assert average["base"] == pytest.approx(80.47, abs=0.005)
    assert average["new"] == pytest.approx(71.69, abs=0.005)
    assert average["H"] == pytest.approx(75.83, abs=0.005)
    assert average["mean_H"] == pytest.approx(75.44, abs=0.01)
    assert average["datasets"] == 11
    words = " ".join(notes(frame, records))
    assert "Mean of the datasets' H instead: cocoop 75.43" in words
    assert "average of 11" in tables.markdown(frame)


def test_mean_and_sample_deviation_over_seeds() -> None:
    cells = PROTOCOL.cells(settings(datasets=("a",), methods=(resolve("coop"),), seeds=(0, 1)))
    records = [record(cell, 60.0 + 10 * cell.training.seed) for cell in cells]
    row = PROTOCOL.table(records).iloc[0]
    assert (row["base"], row["seeds"]) == (65.0, 2)
    assert row["base_std"] == pytest.approx(50**0.5)  # n - 1, not n


def test_a_dataset_without_both_halves_has_no_row() -> None:
    cells = PROTOCOL.cells(settings(seeds=(0,)))
    base_only = [record(cell, 50.0) for cell in cells if cell.testing.subset == "base"]
    assert PROTOCOL.table(base_only).empty
    assert PROTOCOL.table([]).empty


@pytest.mark.parametrize(
    "bad", [{"datasets": ()}, {"methods": ()}, {"seeds": ()}, {"shots": 0}, {"seeds": (-1,)}]
)
def test_impossible_settings(bad: dict) -> None:
    with pytest.raises(UsageError):
        settings(**bad)
