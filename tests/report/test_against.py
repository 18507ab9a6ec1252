"""Ours against the published: differences as they are, and the spread as Student's t has it."""

from collections.abc import Iterator

import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from cocoop.experiments.protocols import PROTOCOLS, Settings
from cocoop.experiments.record import Record
from cocoop.methods import METHODS
from cocoop.methods._settings import resolve
from cocoop.report.tables.against import against, differences, terminal
from cocoop.report.tables.published import published
from tests.report.test_published import ELEVEN, PLAIN, of, record, rerun


def seeded(offsets: tuple[float, ...], datasets: tuple[str, ...] = ELEVEN) -> Iterator[Record]:
    """Table 1 with seeds that lie so far from it."""
    for number, offset in enumerate(offsets, 1):
        for each in rerun(datasets):
            training = each.cell.training
            if not training.learns and number > 1:
                continue
            moved = training.model_copy(update={"seed": number if training.learns else 0})
            cell = each.cell.model_copy(update={"training": moved})
            yield record(cell, each.accuracy + offset * training.learns)


def row(frame: pd.DataFrame, dataset: str, method: str, value: str) -> pd.Series:
    (found,) = (
        each
        for _, each in frame.iterrows()
        if (each["dataset"], each["method"], each["value"]) == (dataset, method, value)
    )
    return found


def test_a_perfect_rerun() -> None:
    frame = against(of(rerun()))
    assert len(frame) == 12 * 3 * 3
    assert frame["difference"].abs().max() < 0.011
    assert frame["spread"].isna().all(), "a single seed has no spread"
    assert row(frame, "average", "cocoop", "H")["theirs"] == pytest.approx(75.83, abs=0.005)


def test_the_spread_is_that_of_two_means() -> None:
    offsets = (0.0, 1.0, 2.0)
    frame = against(of(seeded(offsets)))
    one = row(frame, "dtd", "coop", "new")
    deviation = pd.Series(offsets).std()
    expected = stats.t.ppf(0.975, 2) * deviation * (2 / 3) ** 0.5
    assert one["spread"] == pytest.approx(expected)
    assert one["difference"] == pytest.approx(1)
    assert one["within"]
    average = row(frame, "average", "coop", "new")
    assert average["spread"] == pytest.approx(expected / 11**0.5)
    assert bool(average["within"]) == (average["difference"] <= average["spread"])
    assert pd.isna(row(frame, "dtd", "zeroshot", "new")["within"])


def test_far_away_is_not_within() -> None:
    frame = against(of(seeded((3.0, 3.1, 3.2), ("dtd",))))
    assert not row(frame, "dtd", "cocoop", "base")["within"]


@pytest.mark.parametrize("name", published()["averages"]["base-to-new"])
def test_methods_of_which_only_averages_are_known(name: str) -> None:
    known = published()["averages"]["base-to-new"][name]
    assert name in METHODS.names()
    base, new, mean = known["values"]
    assert 2 * base * new / (base + new) == pytest.approx(mean, abs=0.011)
    settings = Settings(ELEVEN, (resolve(name),), (1,), 16, "ViT-B-16/openai", "0")
    cells = PROTOCOLS.get("base-to-new").cells(settings)
    frame = against(
        of(iter([record(cell, base if cell.testing.subset == "base" else new) for cell in cells]))
    )
    assert set(frame["dataset"]) == {"average"}
    assert frame["difference"].abs().max() < 0.011
    part = against(of(iter([record(cell, 50) for cell in cells[:2]])))
    assert part.empty


def test_what_differs_is_said() -> None:
    assert differences(of(seeded((0.0, 1.0, 2.0)))) == []
    words = " ".join(differences(of(rerun(methods=PLAIN, backbone="RN50/openai", shots=4))))
    for each in ("RN50/openai", "4 shots, not 16", "1 seeds, not 3"):
        assert each in words


def test_in_the_terminal() -> None:
    console = Console(record=True, width=120)
    console.print(terminal(against(of(seeded((0.0, 1.0, 2.0), ("dtd",)))), "Table 1"))
    shown = console.export_text()
    assert "+1.00" in shown
    assert "yes" in shown
    assert "–" in shown
