"""What there is to choose from, as tables made from the registries."""

import dataclasses

import open_clip
from rich.table import Table

from cocoop.backbones.names import EMBEDDED
from cocoop.data.benchmark.catalog import entries
from cocoop.experiments.protocols import PROTOCOLS
from cocoop.methods import METHODS, ordered
from cocoop.methods._settings import all_presets


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
    shown = Table(title=title, title_justify="left", header_style="bold")
    for name in columns:
        shown.add_column(name)
    return shown


def _methods() -> Table:
    columns = (
        "name",
        "what it is",
        "published",
        "needs",
        "learns in",
        "selects on",
        "settings (--set NAME.FIELD=VALUE)",
    )
    shown = _table("Methods", *columns)
    for name in ordered():
        kind = METHODS.get(name)
        facts = kind.facts
        default = next(iter(kind.presets.values())).config
        settings = ", ".join(f"{key}={value!r}" for key, value in dataclasses.asdict(default).items())
        shown.add_row(
            name,
            f"{facts.name}, which {facts.summary}",
            facts.paper.venue,
            facts.needs or "nothing",
            facts.training,
            facts.selects_on,
            settings,
        )
    return shown


def _presets() -> Table:
    shown = _table("Presets", "name", "method", "epochs", "batch", "lr", "source")
    for name, (method, preset) in all_presets().items():
        recipe = preset.recipe
        cells = (recipe.length, str(recipe.batch_size), f"{recipe.lr:g}") if recipe else ("", "", "")
        shown.add_row(name, method, *cells, preset.source)
    return shown


def _datasets() -> Table:
    shown = _table("Datasets", "name", "classes", "images", "template")
    for entry in entries():
        shown.add_row(entry.name, str(entry.classes), entry.images, entry.template)
    return shown


def _protocols() -> Table:
    shown = _table("Protocols", "name", "what it is", "in the paper")
    for name in PROTOCOLS.names():
        shown.add_row(name, PROTOCOLS.get(name).title, PROTOCOLS.get(name).paper)
    return shown


def _backbones(full: bool) -> Table:
    shown = _table("Backbones", "name", "weights")
    shown.add_row(EMBEDDED, "embedded in the package; no network")
    pretrained: dict[str, list[str]] = {}
    for architecture, tag in open_clip.list_pretrained():
        pretrained.setdefault(architecture, []).append(tag)
    if full:
        for architecture, tags in pretrained.items():
            shown.add_row(f"{architecture}/TAG", ", ".join(tags))
    else:
        shown.add_row("ARCHITECTURE/TAG", f"{len(pretrained)} of open_clip: cocoop list backbones")
    return shown
