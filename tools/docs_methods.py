"""The page of the methods, from the facts that their classes declare."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from docs_tables import table

from cocoop.methods import METHODS, Facts, Paper, Preset, Recipe, ordered
from cocoop.utils.docstrings import attributes

NEEDS = {
    "images": "labelled images of the classes",
    "sentences": "sentences about the classes",
    "": "nothing but names",
}

# what a method declares, in the words of the page; a line is left out where the words are empty
LINES: dict[str, Callable[[Facts], str]] = {
    "Paper": lambda facts: _paper(facts.paper),
    "Code that the settings follow": lambda facts: facts.paper.code and f"<{facts.paper.code}>",
    "Needs": lambda facts: NEEDS[facts.needs],
    "Learns": lambda facts: {"none": "nothing", "steps": "in steps of an optimiser"}.get(
        facts.training, f"in {facts.training}"
    ),
    "Context vectors": lambda facts: (
        "" if not facts.learns else "made for each image" if facts.conditional else "the same for all images"
    ),
    "Image tower frozen up to": lambda facts: facts.cut if facts.cut != "feature" else "",
    "Hyper-parameters selected on": lambda facts: facts.selects_on if facts.selects_on != "nothing" else "",
    "Sees test images": lambda facts: f"{facts.adaptation}, without labels" if facts.sees_test_images else "",
    "Training sees the new names": lambda facts: "yes" if facts.sees_new_names else "",
    "Extends": lambda facts: f"[{facts.extends}](#{facts.extends})" if facts.extends else "",
}


def reference() -> str:
    """Return every method, and the settings of a training that they share, as Markdown."""
    parts = [part for name in ordered() for part in _method(name, METHODS.get(name))]
    shared = ["## Settings of the training", "Every method that is trained in steps takes these too."]
    return "\n\n".join([*parts, *shared, _settings("METHOD", Recipe())])


def _method(name: str, cls: type[Any]) -> Iterator[str]:
    facts: Facts = cls.facts
    presets: Mapping[str, Preset] = cls.presets
    default = next(iter(presets.values())).config
    yield f"## {name}"
    yield f"**{facts.name}** {facts.summary}."
    lines = ((word, say(facts)) for word, say in LINES.items())
    yield "\n".join(f"* {word}: {words}." for word, words in lines if words)
    yield _settings(name, default)
    head = (
        "preset",
        "settings",
        *(("epochs", "batch", "learning rate") if facts.training == "steps" else ()),
    )
    rows = ((f"`{key}`", *_preset(preset, default), preset.source) for key, preset in presets.items())
    yield table((*head, "source"), rows)


def _paper(paper: Paper) -> str:
    return f"{paper.authors}, [{paper.title}]({paper.link}), {paper.venue}"


def _settings(name: str, default: Any) -> str:
    words = attributes(type(default))
    rows = (
        (f"`{name}.{field.name}`", f"`{getattr(default, field.name)!r}`", words.get(field.name, ""))
        for field in dataclasses.fields(default)
    )
    return table(("`--set`", "default", "what it is"), rows)


def _preset(preset: Preset, default: Any) -> tuple[str, ...]:
    """Return what differs from the default preset, and the recipe in short."""
    config, recipe = preset.config, preset.recipe
    names = [field.name for field in dataclasses.fields(config)]
    changed = [name for name in names if getattr(config, name) != getattr(default, name)]
    settings = ", ".join(f"`{name}={getattr(config, name)!r}`" for name in changed)
    settings += f" (others on {', '.join(preset.by_dataset)})" if preset.by_dataset else ""
    if recipe is None:
        return (settings,)
    return settings, recipe.length, str(recipe.batch_size), f"{recipe.lr:g}"
