"""The training that `cocoop fit` does: from the shots of a dataset, through the cache of its features."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from cocoop.backbones.device import few_threads
from cocoop.data import Dataset, Item
from cocoop.estimator.backbone import AUTO, backbone_for, planned
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.features import encode, encoder
from cocoop.estimator.fit_options import FitOptions
from cocoop.estimator.fit_output import say_plan, say_start
from cocoop.estimator.inputs import Labels, shots_in
from cocoop.estimator.progress import every_step, progress
from cocoop.estimator.train import cut_for
from cocoop.methods._recipe import training_views

SEEN = 4_000  # images a training sees, repeats counted, where neither epochs nor preset were asked for
PAIRS = 1_500_000  # images times names that it sees then, where every image has prompts of its own


def prepared(
    model: PromptClassifier,
    train: Sequence[Item],
    data: Dataset,
    options: FitOptions,
    console: Console,
    automatic: bool = False,
) -> bool:
    """Say what is learned from, choose length and backbone; return whether to train, or only to say the plan.

    Args:
        model: untrained.
        train: the shots.
        data: that they are of.
        options: as they were asked for.
        console: where it is said.
        automatic: whether the method is still to be chosen.
    """
    say_start(data, train, console)
    asked = options.params.get("backbone") or AUTO
    limit_epochs(model, len(train), len(data.class_names))
    if options.dry_run:
        backbone = ": ".join(filter(None, planned(str(asked), data)))
        say_plan(model, backbone, options.out, automatic, truth_of(data, train), console)
    elif isinstance(asked, str):
        model.set_params(backbone=backbone_for(asked, data, model.device, model.precision, console))
    return not options.dry_run


def limit_epochs(model: PromptClassifier, images: int, classes: int) -> None:
    """Train for the preset's epochs, but fewer on many images: a laptop should be done in minutes.

    Two at least, as the first is the warm-up. A preset that counts steps for every shot has many.
    """
    recipe = model.choice.recipe
    lengths = {"epochs", "steps", "steps_per_shot"}
    asked = model.epochs or model.preset or lengths & set(model.settings or {})
    seen = min(SEEN, PAIRS // classes) if model.choice.facts.conditional else SEEN
    many = recipe and (recipe.steps_per_shot or images * recipe.epochs > seen)
    if recipe and many and not asked and not recipe.from_views:
        model.set_params(epochs=max(2, seen // images))


def train_on_shots(
    model: PromptClassifier, items: Sequence[Item], held: Sequence[Item], data: Dataset, console: Console
) -> None:
    """Fit the model to the shots; `held` are what it may select on."""
    clip = model.load_backbone()
    choice = model.choice_for(bool(data.labels))
    images = replace(encoder(clip, data), cut=cut_for(choice, clip, model.template))
    encode(clip, data, items, console)  # a bad image is named before the training
    recipe = choice.recipe
    steps = recipe.all_steps(len(items), shots_in(truth_of(data, items))) if recipe else 0
    with (
        few_threads(clip.device, clip.width),
        progress("training", max(1, steps), console) as advance,
        every_step(lambda: advance(1)),
    ):
        model.fit_features(
            lambda epoch: images.train(data.root, items, epoch, model.seed, None, *training_views(recipe)),
            truth_of(data, items),
            validation=lambda: (images.test(data.root, held), [item.name for item in held]),
            plain=lambda: images.test(data.root, items),
        )


def truth_of(data: Dataset, items: Sequence[Item]) -> Labels:
    """Return the class name of every image, or a list of them where it may have several."""
    return [data.names_of(item) for item in items] if data.labels else [item.name for item in items]


def all_items(data: Dataset) -> tuple[Item, ...]:
    """Return the images of all splits."""
    return tuple(item for items in data.splits.values() for item in items)
