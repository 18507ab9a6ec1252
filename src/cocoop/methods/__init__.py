"""One file a method: how context vectors are made, and where in the prompt they stand."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cocoop.methods._facts import Facts, Paper
from cocoop.methods._recipe import Preset, Recipe
from cocoop.utils.registry import Registry

if TYPE_CHECKING:
    from cocoop.methods._method import Method, build

METHODS: Registry[type[Any]] = Registry("method", __name__)
DEFAULT = "cocoop"  # for whoever asks for no method


def facts_of(name: str) -> Facts:
    """Return the declared facts of a method, without importing it. Raises UsageError where there is none."""
    facts: Facts = METHODS.declared(name, "facts")
    return facts


def presets_of(name: str) -> Mapping[str, Preset]:
    """Return the declared presets of a method to look at; `resolve` has them to train with.

    Raises:
        UsageError: there is no such method.
    """
    presets: Mapping[str, Preset] = METHODS.declared(name, "presets")
    return presets


def ordered() -> list[str]:
    """All methods: what the others are measured by first, then in the order in which they were published.

    Those that see test images stand behind the others.
    """
    return sorted(METHODS.names(), key=place)


def place(name: str) -> tuple[bool, bool, str, str]:
    """Return what methods are sorted by; one that is not registered here comes last."""
    if name not in METHODS.names():
        return (True, True, "9999", name)
    facts = facts_of(name)
    return (not facts.baseline, facts.sees_test_images, facts.paper.date, name)


def baseline() -> str:
    """Return the method that the others are measured by."""
    return next(name for name in METHODS.names() if facts_of(name).baseline)


def __getattr__(name: str) -> Any:
    """Import what is built on torch when it is first asked for: facts and their tables need none."""
    if name not in ("Method", "build"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}._method"), name)


__all__ = [
    "DEFAULT",
    "METHODS",
    "Facts",
    "Method",
    "Paper",
    "Preset",
    "Recipe",
    "baseline",
    "build",
    "facts_of",
    "ordered",
    "place",
    "presets_of",
]
