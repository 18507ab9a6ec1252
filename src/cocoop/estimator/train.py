"""From the views of labelled images to a trained method, and everything that a model folder tells of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from cocoop.backbones.clip import Backbone
from cocoop.estimator.card import ModelInfo
from cocoop.methods import Method
from cocoop.methods._settings import MethodChoice
from cocoop.training.loop import OnEpoch, train
from cocoop.training.prompt_file import PromptCard
from cocoop.training.samples import Samples
from cocoop.utils.environment import environment


def train_model(
    choice: MethodChoice,
    backbone: Backbone,
    class_names: list[str],
    samples: Samples,
    *,
    template: str,
    seed: int,
    phrases: Mapping[str, str | Sequence[str]] | None = None,
    memory_budget: int | None = None,
    on_epoch: OnEpoch = lambda epoch: None,
) -> tuple[Method, ModelInfo]:
    """Fit a method to labelled images; return it with what is known of it.

    Args:
        choice: the method and its settings.
        backbone: the frozen CLIP.
        class_names: in label order.
        samples: labelled image features.
        template: the zero-shot prompt.
        seed: of everything drawn at random.
        phrases: what some classes are called in the prompts, where not by their names.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        on_epoch: called after every epoch.

    Raises:
        UsageError: bad class names, or settings that the backbone cannot take.
        CocoopError: training diverged, or there are no images.
    """
    card = PromptCard(
        method=choice.method,
        config=asdict(choice.config),
        backbone=backbone.name,
        weights=backbone.weights_digest,
        template=template,
        class_names=class_names,
        phrases={
            name: [each] if isinstance(each, str) else list(each)
            for name, each in (phrases or {}).items()
            if name in class_names
        },
        seed=seed,
    )
    method, trained = train(
        card, choice.recipe, backbone, samples, memory_budget=memory_budget, on_epoch=on_epoch
    )
    info = ModelInfo(
        prompt=card,
        recipe=asdict(choice.recipe) if choice.recipe else None,
        preprocess=asdict(backbone.preprocess),
        precision=backbone.precision,
        images=len(samples.labels),
        **trained.log.by_epoch(),
        environment=environment(),
        created=now(),
    )
    return method, info


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
