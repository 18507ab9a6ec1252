"""What there is to choose from, as tables made from the registries."""

import dataclasses
import inspect

import open_clip
from rich.table import Table

from cocoop.backbones.names import EMBEDDED
from cocoop.data.benchmark.catalog import entries
from cocoop.experiments.protocols import PROTOCOLS
from cocoop.methods import METHODS
from cocoop.methods._settings import presets


def table(kind: str, full: bool) -> Table:
    """Return the table of one kind; `full` where it was asked for alone."""
    return {
        "methods": _methods,
        "presets": _presets,
        "datasets": _datasets,
        "protocols": _protocols,
        "backbones": lambda: _backbones(full),
    }[kind]()


def _table(title: str, *columns: str) -> Table:
    found = Table(title=title, title_justify="left", header_style="bold")
    for name in columns:
        found.add_column(name)
    return found


def _methods() -> Table:
    found = _table("Methods", "name", "what it is", "settings (--set NAME.FIELD=VALUE)")
    for name in METHODS.names():
        cls = METHODS.get(name)
        fields = dataclasses.fields(cls.config_type)
        default = next(iter(cls.presets.values())).config
        settings = ", ".join(f"{field.name}={getattr(default, field.name)!r}" for field in fields)
        summary = (inspect.getdoc(cls) or "").partition("\n")[0]
        found.add_row(name, summary, settings)
    return found


def _presets() -> Table:
    found = _table("Presets", "name", "method", "epochs", "batch", "lr", "source")
    for name, (method, preset) in presets().items():
        recipe = preset.recipe
        cells = (str(recipe.epochs), str(recipe.batch_size), f"{recipe.lr:g}") if recipe else ("", "", "")
        found.add_row(name, method, *cells, preset.source)
    return found


def _datasets() -> Table:
    found = _table("Datasets", "name", "classes", "images", "template")
    for entry in entries():
        found.add_row(entry.name, str(entry.classes), entry.images, entry.template)
    return found


def _protocols() -> Table:
    found = _table("Protocols", "name", "what it is", "in the paper")
    for name in PROTOCOLS.names():
        found.add_row(name, PROTOCOLS.get(name).title, PROTOCOLS.get(name).paper)
    return found


def _backbones(full: bool) -> Table:
    found = _table("Backbones", "name", "weights")
    found.add_row(EMBEDDED, "embedded in the package; no network")
    pretrained: dict[str, list[str]] = {}
    for architecture, tag in open_clip.list_pretrained():
        pretrained.setdefault(architecture, []).append(tag)
    if full:
        for architecture, tags in pretrained.items():
            found.add_row(f"{architecture}/TAG", ", ".join(tags))
    else:
        found.add_row("ARCHITECTURE/TAG", f"{len(pretrained)} of open_clip: cocoop list backbones")
    return found
