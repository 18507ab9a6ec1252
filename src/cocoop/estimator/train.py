"""Image features and class names to a trained prompt and the facts of its training."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from jaxtyping import Int
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.estimator.card import ModelFacts
from cocoop.methods import Method
from cocoop.methods._settings import MethodChoice
from cocoop.training.classifier import Classifier
from cocoop.training.loop import Epoch, Views, fit
from cocoop.training.prompt_file import PromptCard, build_method
from cocoop.utils.environment import environment


def learn(
    choice: MethodChoice,
    backbone: Backbone,
    class_names: Sequence[str],
    views: Views,
    labels: Int[Tensor, " n"],
    *,
    template: str,
    seed: int,
    memory_budget: int | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[Method, ModelFacts]:
    """Train a method over its classes; one that learns nothing is only built.

    Args:
        choice: the method with its settings.
        backbone: the frozen CLIP.
        class_names: in label order.
        views: image features of each epoch.
        labels: class of every image.
        template: the zero-shot prompt, with `{}` for the class name.
        seed: of the initial weights and the order of the images.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        on_epoch: called after every epoch.

    Raises:
        UsageError: bad class names.
        CocoopError: training diverged, or there are no images.
    """
    card = PromptCard(
        method=choice.method,
        config=asdict(choice.config),
        backbone=backbone.name,
        weights=backbone.weights_digest,
        template=template,
        class_names=list(class_names),
        seed=seed,
    )
    method = build_method(card, backbone)
    facts = ModelFacts(
        prompt=card,
        preprocess=asdict(backbone.preprocess),
        precision=backbone.precision,
        environment=environment(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    if choice.recipe is None:
        return method, facts
    classifier = Classifier(backbone, method, class_names, memory_budget)
    trace = fit(classifier, views, labels, choice.recipe, seed, on_epoch)
    trained = {
        "recipe": asdict(choice.recipe),
        "images": len(labels),
        "lr": trace.lr,
        "loss": trace.epoch_losses,
        "seconds": trace.seconds,
    }
    return method, facts.model_copy(update=trained)
