"""`cocoop list presets METHOD`: every setting, where it comes from, what differs on single datasets."""

import dataclasses

import pytest

from cocoop.cli.presets import Setting, settings
from cocoop.methods import METHODS, Recipe
from cocoop.methods._settings import MethodChoice, resolve
from tests.cli.test_cli import call

PRESETS = [(method, preset) for method in METHODS.names() for preset in METHODS.get(method).presets]


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a method that there is not.

    Attributes:
        depth: layers that are learned, e.g. Q and K. Nine in the paper.
        words: how classes are named.
        lr: of the method's own second optimiser.
    """

    depth: int
    words: tuple[str, ...] = dataclasses.field(default_factory=lambda: ("name",))
    lr: float = 1.0


CHOICE = MethodChoice(
    "none",
    "none-paper",
    "none",
    Config(depth=9),
    Recipe(epochs=5, momentum=0.9),
    {"dtd": {"words": ("texture",), "epochs": 7}, "food101": {"depth": 9}},
)


def rows(dataset: str | None = None) -> dict[str, Setting]:
    return {each.name: each for each in settings(CHOICE, dataset)}


def test_settings_of_the_method_then_of_its_training() -> None:
    recipe = [field.name for field in dataclasses.fields(Recipe) if field.name != "lr"]
    assert [each.name for each in settings(CHOICE)] == ["depth", "words", "lr", *recipe]
    assert rows()["lr"].value == 1.0


def test_where_values_come_from() -> None:
    found = rows()
    assert found["depth"] == Setting("depth", 9, "the preset", "layers that are learned, e.g. Q and K")
    assert found["words"] == Setting("words", ("name",), "default", "how classes are named")
    assert found["epochs"] == Setting(
        "epochs", 5, "the preset", "passes over the shots; 0 where a method is computed in closed form"
    )
    assert found["momentum"].source == "default"


def test_settings_on_a_dataset() -> None:
    found = rows("dtd")
    assert found["words"] == Setting("words", ("texture",), "on dtd", "how classes are named")
    assert (found["epochs"].value, found["epochs"].source) == (7, "on dtd")
    assert found["depth"] == rows()["depth"]
    assert rows("food101")["depth"].source == "on food101"
    assert rows("eurosat") == rows()


def test_a_method_that_takes_no_steps_has_its_own_settings_alone() -> None:
    assert [each.name for each in settings(dataclasses.replace(CHOICE, recipe=None))] == [
        "depth",
        "words",
        "lr",
    ]


@pytest.mark.parametrize(("method", "preset"), PRESETS)
def test_every_setting_of_every_preset_is_there_and_has_a_meaning(method: str, preset: str) -> None:
    choice = resolve(method, preset)
    parts = [part for part in (choice.config, choice.recipe) if part]
    values = {field.name: getattr(part, field.name) for part in parts for field in dataclasses.fields(part)}
    found = settings(choice)
    assert {each.name: each.value for each in found} == values
    assert all(each.meaning for each in found)
    for dataset, changes in choice.by_dataset.items():
        there = {
            each.name: each.value for each in settings(choice, dataset) if each.source == f"on {dataset}"
        }
        assert there == dict(changes)


def test_the_tables_of_a_method(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert call("list", "presets", "taskres") == 0
    shown = capsys.readouterr().out
    assert all(preset in shown for preset in METHODS.get("taskres").presets)
    assert "zeroshot" not in shown.replace("zero-shot", "")
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines()]
    assert ["alpha", "0.5", "default", "scale of the residual"] in lines
    assert ["momentum", "0.9", "default", "of SGD, without dampening"] in lines
    assert ["oxford_flowers", "alpha", "1.0"] in lines


def test_the_tables_on_a_dataset(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert call("list", "presets", "taskres", "--dataset", "oxford_flowers") == 0
    shown = capsys.readouterr().out
    assert "taskres-released on oxford_flowers" in shown
    assert "imagenet" not in shown
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines()]
    assert ["alpha", "1.0", "on oxford_flowers", "scale of the residual"] in lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["presets", "kgcop"], "unknown method 'kgcop'. Did you mean 'kgcoop'"),
        (["presets", "kgcoop", "--dataset", "dtt"], "unknown dataset 'dtt'. Did you mean 'dtd'"),
        (["methods", "kgcoop"], "cocoop list presets kgcoop"),
        (["presets", "--dataset", "dtd"], "--dataset needs a method"),
    ],
)
def test_wrong_calls(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", *arguments) == 2
    assert words in capsys.readouterr().err.replace("\n", " ")
