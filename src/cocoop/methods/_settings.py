"""Settings from words: a method's preset with overrides, checked field by field."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cocoop.errors import UsageError, unknown
from cocoop.methods import METHODS, Facts, facts_of, ordered, presets_of
from cocoop.methods._recipe import Preset, Recipe


@dataclasses.dataclass(frozen=True)
class MethodChoice:
    """A method with all its settings resolved.

    Attributes:
        method: registered name.
        preset: name of the preset that the settings started from.
        label: name for tables: the method, and what differs from its default preset.
        config: the method's `Config`.
        recipe: how it is fitted; None where nothing is.
        by_dataset: what differs on single datasets and was not overridden: dataset -> field -> value.
    """

    method: str
    preset: str
    label: str
    config: Any
    recipe: Recipe | None
    by_dataset: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def on(self, dataset: str) -> "MethodChoice":
        """Return the choice with the settings that it has on one dataset."""
        changes = self.by_dataset.get(dataset, {})
        config = {name: value for name, value in changes.items() if name in _fields(self.config)}
        recipe = {name: value for name, value in changes.items() if name not in config}
        return dataclasses.replace(
            self,
            config=dataclasses.replace(self.config, **config),
            recipe=dataclasses.replace(self.recipe, **recipe) if self.recipe else None,
        )

    @property
    def facts(self) -> Facts:
        """What the method declares about itself."""
        facts: Facts = facts_of(self.method)
        return facts

    def variant(self, words: str, **changes: Any) -> "MethodChoice":
        """Return the choice with some attributes changed, and what that is in words in its label."""
        marks = f"{self.label[:-1]}, {words})" if self.label.endswith(")") else f"{self.label} ({words})"
        return dataclasses.replace(self, label=marks, **changes)


def all_presets() -> dict[str, tuple[str, Preset]]:
    """All presets by name: (method, preset)."""
    methods = ((name, presets_of(name)) for name in ordered())
    return {preset: (name, presets[preset]) for name, presets in methods for preset in presets}


def resolve(
    method: str, preset: str | None = None, overrides: Mapping[str, Any] | None = None
) -> MethodChoice:
    """Return the settings of a method.

    Args:
        method: registered name.
        preset: one of its presets; None for the first.
        overrides: field name to value; a field of its `Config` or of `Recipe`. Epochs, where they are given
            and no number of steps is, are counted in place of the preset's steps.

    Raises:
        UsageError: an unknown method, preset or field, or a value of the wrong type.
    """
    known = METHODS.get(method).presets
    default = next(iter(known))
    name = preset or default
    if name not in known:
        raise unknown(f"preset of {method}", name, known)
    base = known[name]
    config, recipe = base.config, base.recipe
    if recipe and "epochs" in (overrides or {}):
        recipe = dataclasses.replace(recipe, steps=0, steps_per_shot=0)
    for field, value in (overrides or {}).items():
        if field in _fields(config):
            config = _replace(config, field, value, method)
        elif recipe and field in _fields(recipe):
            recipe = _replace(recipe, field, value, method)
        else:
            raise unknown(
                f"setting of {method}", field, [*_fields(config), *(_fields(recipe) if recipe else [])]
            )
    if facts_of(method).training == "steps" and not (recipe and recipe.learns):
        raise UsageError(f"{method} learns by steps: epochs must be at least 1, or steps")
    changes = [f"{field}={value}" for field, value in (overrides or {}).items()]
    marks = ([] if name == default else [name.removeprefix(f"{method}-")]) + changes
    label = f"{method} ({', '.join(marks)})" if marks else method
    given = set(overrides or {})
    by_dataset = {
        dataset: {field: value for field, value in changes.items() if field not in given}
        for dataset, changes in base.by_dataset.items()
    }
    return MethodChoice(method, name, label, config, recipe, by_dataset)


def choose(
    methods: Sequence[str], presets: Sequence[str], overrides: Sequence[str]
) -> tuple[MethodChoice, ...]:
    """Resolve method names, preset names and "METHOD.FIELD=VALUE" words.

    Raises:
        UsageError: an unknown method, preset or field, or two presets for one method.
    """
    known = all_presets()
    chosen: dict[str, str] = {}
    for name in presets:
        if name not in known:
            raise unknown("preset", name, known)
        method = known[name][0]
        if method not in methods:
            raise UsageError(f"preset {name!r} is for {method}, which is not among the methods")
        if method in chosen:
            raise UsageError(f"two presets for {method}: {chosen[method]} and {name}")
        chosen[method] = name
    values = parse_overrides(overrides)
    if stray := set(values) - set(methods):
        raise unknown("method in --set", sorted(stray)[0], methods)
    return tuple(resolve(method, chosen.get(method), values.get(method)) for method in methods)


def parse_overrides(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parse "method.field=value" words into method -> field -> value; a value is JSON, else a string.

    Raises:
        UsageError: a word of another form.
    """
    parsed: dict[str, dict[str, Any]] = {}
    for word in assignments:
        key, equals, value = word.partition("=")
        method, dot, field = key.partition(".")
        if not (equals and dot and method and field):
            raise UsageError(f"--set takes METHOD.FIELD=VALUE, e.g. cocoop.epochs=5, not {word!r}")
        parsed.setdefault(method, {})[field] = _value(value)
    return parsed


def from_dict(kind: type, values: Mapping[str, Any]) -> Any:
    """Build a settings dataclass from plain values, checking their types. Raises UsageError."""
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        for each in error.errors():
            own = each.get("ctx", {}).get("error")
            if isinstance(own, UsageError):  # raised by the dataclass, and wrapped because it is a ValueError
                raise own from None
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"bad settings: {problems}") from None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _fields(settings: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(settings)]


def _replace(settings: Any, field: str, value: Any, method: str) -> Any:
    values = {name: getattr(settings, name) for name in _fields(settings)}
    try:
        return from_dict(type(settings), values | {field: value})
    except UsageError as error:
        raise UsageError(f"{method}.{field}={value!r}: {error}") from None
