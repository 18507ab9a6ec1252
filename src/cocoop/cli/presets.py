"""Every setting of a method's presets: its value, where that comes from and what it means."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from cocoop.data.datasets import DATASETS
from cocoop.errors import unknown
from cocoop.methods import presets_of
from cocoop.methods._settings import MethodChoice, all_presets
from cocoop.utils.docstrings import attributes, first_sentence


@dataclasses.dataclass(frozen=True)
class Setting:
    """A resolved setting.

    Attributes:
        name: the field of the method's `Config` or of `Recipe`, as --set takes it.
        value: what it is set to.
        source: "the preset", "default" or "on DATASET".
        meaning: the first sentence of what its class says of it.
    """

    name: str
    value: Any
    source: str
    meaning: str


def settings(choice: MethodChoice, dataset: str | None = None) -> list[Setting]:
    """Return the settings of a method, then those of its training; on a dataset, if one is named."""
    own = choice.by_dataset.get(dataset, {}) if dataset else {}
    here = choice.on(dataset) if dataset else choice
    found: dict[str, Setting] = {}
    for part in filter(None, (here.config, here.recipe)):
        words = attributes(type(part))
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            plain = "default" if _is_default(field, value) else "the preset"
            source = f"on {dataset}" if field.name in own else plain
            setting = Setting(field.name, value, source, first_sentence(words.get(field.name, "")))
            found.setdefault(field.name, setting)  # of two that share a name, --set reaches the method's
    return list(found.values())


def show(method: str, dataset: str | None = None) -> Group:
    """Return the tables of all presets of a method.

    Raises:
        UsageError: an unknown method or dataset.
    """
    presets = presets_of(method)
    if dataset is not None and dataset not in DATASETS.names():
        raise unknown("dataset", dataset, DATASETS.names())
    return Group(*(table for name in presets for table in _tables(declared(method, name), dataset)))


def declared(method: str, preset: str) -> MethodChoice:
    """Return a preset as the method's file declares it, to look at."""
    values = presets_of(method)[preset]
    return MethodChoice(method, preset, method, values.config, values.recipe, values.by_dataset)


def _tables(choice: MethodChoice, dataset: str | None) -> Iterator[Table]:
    """Yield the table of a preset, and beneath it what differs on single datasets."""
    source = all_presets()[choice.preset][1].source
    place = f" on {dataset}" if dataset else ""
    rows = [(each.name, repr(each.value), each.source, each.meaning) for each in settings(choice, dataset)]
    yield _table(f"{choice.preset}{place}: {source}", ("setting", "value", "from", "meaning"), rows)
    if choice.by_dataset and not dataset:
        single = [
            (each, field, repr(value))
            for each, changes in choice.by_dataset.items()
            for field, value in changes.items()
        ]
        yield _table(f"{choice.preset} differs on", ("dataset", "setting", "value"), single)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    shown = Table(title=title, title_justify="left", header_style="bold")
    for name in columns:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    return shown


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a value is the one that the field has where none is given."""
    make = field.default_factory
    return bool(value == (field.default if make is dataclasses.MISSING else make()))
