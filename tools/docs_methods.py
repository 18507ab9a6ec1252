"""The page of the methods, from the facts that their classes declare."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from docs_docstrings import attributes, summary, table

from cocoop.methods import METHODS
from cocoop.methods._recipe import Preset, Recipe


def reference() -> str:
    """Return every method, and the settings of a training that they share, as Markdown."""
    parts = [part for name in METHODS.names() for part in _method(name, METHODS.get(name))]
    shared = ["## Settings of the training", "Every method that is trained in steps takes these too."]
    return "\n\n".join([*parts, *shared, _settings("METHOD", Recipe())])


def _method(name: str, cls: type[Any]) -> Iterator[str]:
    presets: Mapping[str, Preset] = cls.presets
    default = next(iter(presets.values())).config
    yield f"## {name}"
    yield summary(cls)
    yield from (
        f"{word}: {say(getattr(cls, fact))}." for fact, (word, say) in FACTS.items() if hasattr(cls, fact)
    )
    yield _settings(name, default)
    rows = ((f"`{key}`", *_preset(preset, default), preset.source) for key, preset in presets.items())
    yield table(("preset", "settings", "epochs", "batch", "learning rate", "source"), rows)


def _paper(paper: Any) -> str:
    """Return a declared paper as a reference."""
    return f"[{paper.title}]({paper.link}), {paper.venue} {paper.year}"


# what a class may declare, and how the page says it: attribute -> (word, value -> text)
FACTS: dict[str, tuple[str, Callable[[Any], str]]] = {"paper": ("Paper", _paper)}


def _settings(name: str, default: Any) -> str:
    words = attributes(type(default))
    rows = (
        (f"`{name}.{field.name}`", f"`{getattr(default, field.name)!r}`", words.get(field.name, ""))
        for field in dataclasses.fields(default)
    )
    return table(("`--set`", "default", "what it is"), rows)


def _preset(preset: Preset, default: Any) -> tuple[str, str, str, str]:
    """Return what differs from the default preset, and the recipe in short."""
    config, recipe = preset.config, preset.recipe
    names = [field.name for field in dataclasses.fields(config)]
    changed = [name for name in names if getattr(config, name) != getattr(default, name)]
    settings = ", ".join(f"`{name}={getattr(config, name)!r}`" for name in changed)
    if recipe is None:
        return settings, "", "", ""
    return settings, str(recipe.epochs), str(recipe.batch_size), f"{recipe.lr:g}"
