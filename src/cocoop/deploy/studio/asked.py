"""What can be trained here, and what a person asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cocoop.errors import UsageError
from cocoop.methods import facts_of, ordered, presets_of


@dataclass(frozen=True)
class Asked:
    """What is to be trained.

    Attributes:
        method: registered name; see `default_method`.
        preset: one of its presets; None for the one that is quick, or its first.
        epochs: passes over the images; None for the preset's.
        settings: further fields of the method's settings or of its recipe.
    """

    method: str
    preset: str | None = None
    epochs: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def params(self) -> dict[str, Any]:
        """Return what a `PromptClassifier` is made with. Raises UsageError for what is not possible.

        Every image is seen as it was encoded: a closed form that would be computed from several views of each
        takes the one that there is.
        """
        facts = facts_of(self.method)
        if not learnable(self.method):
            raise UsageError(
                f"{facts.name} does not learn from features of labelled images alone; take another method"
            )
        settings = dict(self.settings)
        if "starts_from" in settings:
            raise UsageError("starts_from names a file, and the page opens none; use cocoop fit")
        preset = self.preset or facts.quick or None
        params: dict[str, Any] = {"method": self.method, "preset": preset, "epochs": self.epochs}
        from cocoop.estimator import PromptClassifier  # the page is there before torch is loaded

        recipe = PromptClassifier(**params, settings=settings).choice.recipe
        if recipe and (recipe.from_views or not recipe.learns):
            settings.setdefault("views", 1)
        return {**params, "settings": settings}


def learnable(method: str) -> bool:
    """Whether a method learns from features of labelled images alone, and answers for each by itself."""
    facts = facts_of(method)
    apart = facts.sees_test_images or facts.ablation
    return facts.learns and facts.images and facts.cut == "feature" and not apart


def default_method() -> str:
    """Return the method that is trained where none is named.

    It is computed at once from the features of any number of labels, and answers for names that are added
    later, so that a person waits for nothing.
    """
    return next(
        name for name in ordered() if learnable(name) and facts_of(name).quick and not facts_of(name).bound
    )


def methods() -> list[dict[str, Any]]:
    """Return the methods that can be trained here, in the order of their publication."""
    return [
        {
            "name": name,
            "title": facts.name,
            "summary": facts.summary,
            "presets": list(presets_of(name)),
            "open": not facts.bound,
            "quick": bool(facts.quick),
        }
        for name in ordered()
        if learnable(name)
        for facts in [facts_of(name)]
    ]
