"""From the views of labelled images to a trained method, and everything that a model folder tells of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone

import torch
from jaxtyping import Float
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.backbones.vision import Cut
from cocoop.errors import UsageError
from cocoop.estimator.card import ModelInfo
from cocoop.estimator.inputs import Labels, Names, check_distinct, is_several, label_lists, texts
from cocoop.estimator.multilabel import untuned
from cocoop.methods import METHODS, Method, build
from cocoop.methods._facts import Selection
from cocoop.methods._hooks import cut_of
from cocoop.methods._settings import MethodChoice
from cocoop.training import multilabel
from cocoop.training.classifier import Classifier, evaluating
from cocoop.training.loop import OnEpoch, train
from cocoop.training.prompt_file import PromptCard, build_method
from cocoop.training.samples import Samples, Validation, Views, no_validation
from cocoop.training.start import start_from
from cocoop.utils.display import some
from cocoop.utils.environment import environment

Labelled = Callable[[], tuple[Float[Tensor, "m d"], Names]]  # gives features and class names


def cut_for(choice: MethodChoice, backbone: Backbone, template: str) -> Cut:
    """Return where the image tower stops being frozen under a method with its settings."""
    return cut_of(build(choice.method, choice.config, backbone, template=template, n_classes=1, seed=0))


def samples_of(
    views: Views,
    labels: Labels,
    validation: Labelled | None = None,
    plain: Callable[[], Float[Tensor, "n d"]] | None = None,
) -> tuple[list[str], Samples]:
    """Return the class names of labelled image features, sorted, and the samples of a fit to them.

    Args:
        views: gives the features (n, d) of the views of an epoch, counted from 0.
        labels: the class name of each image, or a list with all of its classes.
        validation: gives the images to select on, if the method does; none do where labels are lists.
        plain: gives the features of the test views, to describe what the method saw by.

    Raises:
        UsageError: two names are one to CLIP; or, in the fit, a validation image is of a class without
            training images.
    """
    if is_several(labels):
        lists = label_lists(labels)
        names = sorted({name for each in lists for name in each})
        check_distinct(names)
        return names, Samples(views, multilabel.targets(lists, names), plain=plain)
    names = sorted(set(texts(labels)))
    check_distinct(names)
    place = {name: index for index, name in enumerate(names)}

    def selected_on(selection: Selection) -> Validation:
        if validation is None:
            return no_validation(selection)
        fval, held = validation()
        if others := sorted(set(texts(held)) - set(names)):
            raise UsageError(f"validation images of classes without training images: {some(others)}")
        return fval, torch.tensor([place[str(label)] for label in held], dtype=torch.long)

    truth = torch.tensor([place[str(label)] for label in labels])
    return names, Samples(views, truth, selected_on, plain)


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
        UsageError: bad class names, settings that the backbone cannot take, or images of several classes and
            a method that takes one.
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
    if samples.labels.is_floating_point():
        check_multilabel(choice)
        if not class_names:
            raise UsageError("none of the images has a class; give some that have one")
        samples = _with_offsets(card, choice, backbone, samples, memory_budget)
    method, trained = train(
        card, choice.recipe, backbone, samples, memory_budget=memory_budget, on_epoch=on_epoch
    )
    info = ModelInfo(
        prompt=card,
        recipe=asdict(choice.recipe) if choice.recipe else None,
        preprocess=asdict(backbone.preprocess),
        precision=backbone.precision,
        images=len(samples.labels),
        multilabel=None if samples.offsets is None else untuned(class_names, samples.offsets),
        **trained.log.by_epoch(),
        environment=environment(),
        created=now(),
    )
    return method, info


def several_choice(choice: MethodChoice, asked: bool = False) -> MethodChoice:
    """Return a method's settings for images of several classes: mirrored views in place of random crops.

    A crop may leave out what the image has the label of. It stays where somebody asked for it.
    """
    if choice.recipe is None or asked or choice.recipe.augmentation != "crop":
        return choice
    return replace(choice, recipe=replace(choice.recipe, augmentation="mirror"))


def check_multilabel(choice: MethodChoice) -> None:
    """Raise UsageError where a method cannot be fitted to images of several classes."""
    if reason := multilabel.refusal(METHODS.get(choice.method), choice.facts, choice.recipe):
        raise UsageError(
            f"{choice.facts.name} takes no images of several classes: {reason}. Take another method, e.g. "
            "coop or cocoop, or give every image one class"
        )


def _with_offsets(
    card: PromptCard, choice: MethodChoice, backbone: Backbone, samples: Samples, memory_budget: int | None
) -> Samples:
    """Return the samples with the offsets that the training begins with, and keeps."""
    method = build_method(card, backbone)
    if choice.recipe and choice.recipe.starts_from:
        start_from(choice.recipe.starts_from, method, card)
    names = card.class_names
    classifier = Classifier(backbone, method, names, memory_budget, names, card.phrases)
    state = samples.plain() if samples.plain else samples.views(0)
    if not isinstance(state, Tensor):
        raise UsageError("images of several classes need the features of their test views: give plain")
    with torch.no_grad(), evaluating(method):
        logits = classifier.predict(classifier.see(state))
    offsets = multilabel.offsets_of(logits, samples.labels)
    return replace(samples, offsets=offsets)


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
