"""From the views of labelled images to a trained method, and everything that a model folder tells of it."""

from dataclasses import asdict
from datetime import datetime, timezone

from jaxtyping import Int
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.estimator.card import ModelInfo
from cocoop.methods import Method
from cocoop.methods._settings import MethodChoice
from cocoop.training.loop import OnEpoch, Views, train
from cocoop.training.prompt_file import PromptCard
from cocoop.utils.environment import environment


def train_model(
    choice: MethodChoice,
    backbone: Backbone,
    class_names: list[str],
    views: Views,
    labels: Int[Tensor, " n"],
    *,
    template: str,
    seed: int,
    memory_budget: int | None = None,
    on_epoch: OnEpoch = lambda epoch: None,
) -> tuple[Method, ModelInfo]:
    """Train a method on n images; return it with what is known of it.

    Args:
        choice: the method and its settings.
        backbone: the frozen CLIP.
        class_names: in label order.
        views: image features (n, d) of each epoch.
        labels: class of every image.
        template: the zero-shot prompt.
        seed: of everything drawn at random.
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
        seed=seed,
    )
    method, trained = train(
        card, choice.recipe, backbone, views, labels, memory_budget=memory_budget, on_epoch=on_epoch
    )
    info = ModelInfo(
        prompt=card,
        recipe=asdict(choice.recipe) if choice.recipe else None,
        preprocess=asdict(backbone.preprocess),
        precision=backbone.precision,
        images=len(labels),
        **trained.log.by_epoch(),
        environment=environment(),
        created=now(),
    )
    return method, info


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
