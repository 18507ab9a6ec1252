"""`cocoop fit --method auto`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cocoop import Backbone, CocoopError, UsageError, open_dataset
from cocoop.data import Item
from cocoop.estimator import auto
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.fit import FitOptions, fit
from cocoop.methods import METHODS, baseline, ordered


def options(folder: Path, out: Path, **params: object) -> FitOptions:
    given = {"method": "auto", "backbone": "toy", "seed": 1, "device": "cpu"} | params
    return FitOptions(str(folder), out, 16, None, None, None, given)


def drawn(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "hen"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(
                folder / name / f"{index}.png"
            )
    return folder


def test_quick_methods_are_declared() -> None:
    every = dict(auto.quick(transferable=False))
    assert baseline() in every
    assert all(preset in METHODS.get(name).presets for name, preset in every.items())
    assert list(every) == [name for name in ordered() if name in every]
    assert {name for name in every if not METHODS.get(name).facts.bound} == set(dict(auto.quick(True)))
    assert any(METHODS.get(name).facts.bound for name in every)


def test_the_best_on_validation_images_is_fitted_and_the_table_printed(tmp_path: Path, toy: Backbone) -> None:
    console = Console(record=True, width=200)
    model = fit(options(drawn(tmp_path / "photos", 8), tmp_path / "m"), console)
    text = console.export_text()
    assert "chosen by" in text
    rows = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    tried = {
        row[0].strip(): int(row[2]) for row in rows if row[0].strip() in METHODS.names() and len(row) == 4
    }
    assert set(tried) == set(dict(auto.quick(False)))
    best = max(tried, key=lambda name: tried[name])  # the first of equals
    assert model.method == best
    assert (tmp_path / "m" / "model.json").exists()


def test_shots_are_held_back_where_there_are_no_other_images(toy: Backbone) -> None:
    items = [Item(f"{name}/{n}.png", label, name) for label, name in enumerate("abc") for n in range(5)]
    learn, judge = auto._split(items)
    assert len(judge) == 3
    assert not set(learn) & set(judge)
    assert sorted([*learn, *judge]) == sorted(items)
    assert auto._split(items[:1]) == (items[:1], [])


def test_one_image_a_class_cannot_be_chosen_by(toy: Backbone) -> None:
    data = open_dataset("emoji/food")
    one = list({item.name: item for item in data.items("train")}.values())[:3]
    with pytest.raises(CocoopError, match="there are none"):
        auto.choose(PromptClassifier("zeroshot", toy), data, one, (), lambda *a: None, Console(quiet=True))


@pytest.mark.parametrize("given", [{"preset": "zeroshot"}, {"epochs": 3}, {"settings": {"alpha": 1}}])
def test_settings_are_for_a_named_method(given: dict, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="brings its settings"):
        fit(options(tmp_path / "photos", tmp_path / "m", **given), Console(quiet=True))


def test_with_new_classes_only_methods_that_take_them_are_tried(tmp_path: Path, toy: Backbone) -> None:
    (tmp_path / "new.txt").write_text("owl\nfox\n")
    given = options(drawn(tmp_path / "photos", 4), tmp_path / "m")
    console = Console(record=True, width=200)
    model = fit(FitOptions(**{**vars(given), "new_classes": str(tmp_path / "new.txt")}), console)
    assert model.method_.transferable
    bound = [name for name in METHODS.names() if METHODS.get(name).facts.bound]
    assert not any(f"│ {name} " in console.export_text() for name in bound)
