"""How long it will take: nothing for nothing, more for more."""

from pathlib import Path

import pytest
from rich.console import Console

import cocoop
from cocoop import Backbone
from cocoop.experiments import estimate as module
from cocoop.experiments.cost import count_work
from cocoop.experiments.dry_run import duration
from cocoop.experiments.estimate import estimate
from cocoop.experiments.protocols import PROTOCOLS, Settings
from cocoop.experiments.store import Store
from cocoop.methods._settings import choose
from tests.experiments.test_runs import ARGUMENTS


def test_work_times_what_a_little_of_it_takes(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = choose(("zeroshot", "coop"), (), ("coop.epochs=3",))
    settings = Settings(("emoji/food",), choices, (1,), 1, "toy", toy.weights_digest)
    cells, store = PROTOCOLS.get("base-to-new").cells(settings), Store(tmp_path)
    probed: list[float] = []

    def seconds(job) -> float:
        job()
        probed.append(2.0)
        return 2.0

    monkeypatch.setattr(module, "_seconds", seconds)
    (_, coop), encoding = count_work(cells, store, toy, None)
    expected = encoding.views * 2 / module.IMAGES + (coop.trained + coop.tested) * 2 / module.CLASSES
    assert estimate(cells, store, toy, None) == pytest.approx(expected)
    assert len(probed) == 3


@pytest.mark.parametrize(("method", "probes"), [("prolip", 1), ("mma", 4)])
def test_what_is_learned_in_towers_is_probed_from_the_cut(
    method: str, probes: int, toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ProLIP the views alone take time; MMA's images and texts go forward and back in every step."""
    choices = choose((method,), (), (f"{method}.epochs=3",))
    settings = Settings(("emoji/food",), choices, (1,), 1, "toy", toy.weights_digest)
    cells, store = PROTOCOLS.get("base-to-new").cells(settings), Store(tmp_path)
    probed: list[float] = []

    def seconds(job) -> float:
        job()
        probed.append(2.0)
        return 2.0

    monkeypatch.setattr(module, "_seconds", seconds)
    (cost,), encoding = count_work(cells, store, toy, None)
    expected = (encoding.views + cost.images) * 2 / module.IMAGES
    if probes > 1:
        expected += (cost.trained + cost.tested) * 2 / module.CLASSES
    assert estimate(cells, store, toy, None) == pytest.approx(expected)
    assert len(probed) == probes


def test_it_is_said_before_the_run(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    arguments = ARGUMENTS | {"methods": ["zeroshot"], "overrides": [], "dry_run": True, "estimate": True}
    cocoop.run("base-to-new", folder=tmp_path, console=console, **arguments)
    assert "2 cells to run, about " in console.export_text()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1.2, "1 seconds"),
        (119.0, "119 seconds"),
        (130.0, "2 minutes"),
        (10_800.0, "3 hours"),
        (1e6, "12 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
