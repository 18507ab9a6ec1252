"""`cocoop fit`: train on the shots of a dataset, measure beside zero-shot CLIP, save, and say how it went."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cocoop.backbones.clip import EMBEDDED
from cocoop.backbones.device import few_threads
from cocoop.data import DATASETS, Dataset, Item, is_source, open_dataset
from cocoop.data.splits import draw, validation_shots
from cocoop.errors import UsageError
from cocoop.estimator import ZeroShot, auto
from cocoop.estimator.card import Result
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.features import answered, encode, encoder
from cocoop.estimator.folder import check_place
from cocoop.estimator.inputs import read_classes
from cocoop.estimator.progress import progress
from cocoop.methods import baseline
from cocoop.methods._recipe import training_views

FEW = 100  # below so many images, what one of them weighs is said
SEEN = 4_000  # images a training sees, repeats counted, where neither epochs nor preset were asked for


@dataclass(frozen=True)
class FitOptions:
    """The options of `cocoop fit`.

    Attributes:
        data: whatever `open_dataset` takes.
        out: the model folder.
        shots: training images a class; a class with fewer gives all it has.
        new_classes: a text file of names, one a line, or data with images of new classes.
        names: for own data, a file with the class names.
        root: the folder of the registered datasets.
        params: of the `PromptClassifier`.
    """

    data: str
    out: Path
    shots: int
    new_classes: str | None
    names: Path | None
    root: Path | None
    params: dict[str, Any]


@dataclass(frozen=True)
class Tested:
    """Images to test on: the name for the report, where they are from, their features, and the candidates."""

    name: str
    data: Dataset
    items: Sequence[Item]
    zimg: Float[Tensor, "n d"]
    classes: tuple[str, ...]

    @property
    def truth(self) -> list[str]:
        """Which of the candidates each image is."""
        return _truth(self.items)


def fit(options: FitOptions, console: Console) -> PromptClassifier:
    """Train, measure, save and report; return the model. Nothing is written where anything fails before.

    Raises:
        UsageError: a wrong setting, or `out` holds something else.
        CocoopError: the data are not as they should be, or an image cannot be read.
    """
    check_place(options.out)
    if automatic := options.params["method"] == auto.AUTO:
        auto.check(options.params)
    data = open_dataset(options.data, options.root, options.names)
    fresh, fresh_items = _new_classes(options)
    method = baseline() if automatic else options.params["method"]
    model = PromptClassifier(**{**options.params, "method": method}, template=data.template)
    train = draw(data.splits, options.shots, model.seed)["train"]
    classes = {item.name for item in train}
    held_back = validation_shots(data.splits, options.shots, model.seed)
    held_back = tuple(item for item in held_back if item.name in classes)
    _say_start(data, train, console)
    if automatic:
        fit_one = partial(_train, data=data, console=Console(quiet=True))
        best = auto.choose(model, data, train, held_back, fit_one, console, fresh is not None)
        model.set_params(method=best.method, preset=best.preset)
    _limit_epochs(model, len(train))
    zimg = encode(model.load_backbone(), data, data.items("test"), console)
    held = Tested("held-out images", data, data.items("test"), zimg, data.class_names)
    tests = [held, *_new_tests(model, held, fresh, fresh_items, console)]
    _train(model, train, held_back, data, console)
    zero = ZeroShot(model.backbone_, template=data.template)
    results = [_measure(model, zero, test) for test in tests if test.items]
    model.save(options.out, results)
    _say_results(model, results, options.out, console)
    return model


def _limit_epochs(model: PromptClassifier, images: int) -> None:
    """Train for the preset's epochs, but fewer on many images: a laptop should be done in minutes.

    Two at least, as the first is the warm-up.
    """
    recipe = model.choice.recipe
    asked = model.epochs or model.preset or "epochs" in (model.settings or {})
    if recipe and not asked and not recipe.from_views and images * recipe.epochs > SEEN:
        model.set_params(epochs=max(2, SEEN // images))


def _train(
    model: PromptClassifier, items: Sequence[Item], held: Sequence[Item], data: Dataset, console: Console
) -> None:
    """Fit the model to the shots; `held` are what it may select on."""
    clip = model.load_backbone()
    images = encoder(clip, data)
    encode(clip, data, items, console)  # a bad image is named before the training
    recipe = model.choice.recipe
    epochs = recipe.all_epochs(len(items)) if recipe else 0
    with few_threads(clip.device, clip.width), progress("training", max(1, epochs), console) as advance:
        model.fit_features(
            lambda epoch: images.train(data.root, items, epoch, model.seed, None, *training_views(recipe)),
            _truth(items),
            lambda epoch: advance(1),
            lambda: (images.test(data.root, held), _truth(held)),
        )


def _new_classes(options: FitOptions) -> tuple[Dataset | tuple[str, ...] | None, tuple[Item, ...]]:
    """Return the new classes, as data with all their images or as names alone."""
    given = options.new_classes
    if given is None:
        return None, ()
    path = Path(given)
    if path.is_file() and path.suffix.lower() in ("", ".txt"):
        return read_classes(path), ()
    if not is_source(given) and given not in DATASETS.names():
        raise UsageError(f"there is no file of names and no folder {given} for --new-classes")
    data = open_dataset(given, options.root)
    return data, tuple(item for items in data.splits.values() for item in items)


def _new_tests(
    model: PromptClassifier,
    held: Tested,
    fresh: Dataset | tuple[str, ...] | None,
    items: Sequence[Item],
    console: Console,
) -> list[Tested]:
    """Return what new classes are measured on.

    With images: these among the new names, as in the paper, and among all names. With names alone their
    recognition cannot be measured, only whether they draw the held-out images to themselves.
    """
    if fresh is None:
        return []
    names = fresh.class_names if isinstance(fresh, Dataset) else fresh
    every = tuple(dict.fromkeys((*held.classes, *names)))
    if not isinstance(fresh, Dataset):
        return [replace(held, name="held-out images, new names offered too", classes=every)]
    zimg = encode(model.load_backbone(), fresh, items, console)
    return [
        Tested("images of new classes", fresh, items, zimg, names),
        Tested("images of new classes, all names offered", fresh, items, zimg, every),
    ]


def _measure(model: PromptClassifier, zero: PromptClassifier, test: Tested) -> Result:
    place = {name: index for index, name in enumerate(test.classes)}
    truth = torch.tensor([place[name] for name in test.truth])
    logits = [answered(each, test.classes, test.data, test.items, test.zimg) for each in (zero, model)]
    right = [int((each.argmax(1) == truth).sum()) for each in logits]
    return Result(
        name=test.name, classes=len(test.classes), images=len(truth), zeroshot=right[0], trained=right[1]
    )


def _truth(items: Sequence[Item]) -> list[str]:
    return [item.name for item in items]


def _say_start(data: Dataset, train: Sequence[Item], console: Console) -> None:
    held = len(data.items("test"))
    console.print(
        f"{data.name}: {len(data.class_names)} classes, {len(train)} images to learn from, {held} held out",
        highlight=False,
        soft_wrap=True,
    )
    if data.note:
        console.print(data.note, highlight=False, soft_wrap=True)
    if numbers := [name for name in data.class_names if name.replace(".", "").isdigit()]:
        console.print(
            f"warning: class names such as {numbers[0]!r} say nothing to CLIP; give words with --names",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )


def _say_results(model: PromptClassifier, results: Sequence[Result], out: Path, console: Console) -> None:
    info = model.info_
    table = Table(header_style="bold")
    for column in ("tested on", "names", "images", "zero-shot", info.prompt.method):
        table.add_column(column, justify="left" if column == "tested on" else "right")
    for r in results:
        shares = [f"{right / r.images:.1%}" for right in (r.zeroshot, r.trained)]
        table.add_row(r.name, str(r.classes), str(r.images), *shares)
    console.print(table)
    for r in results:
        if r.worse:
            fewer = "fewer --epochs, " if info.loss else ""
            console.print(
                f"warning: it is worse than zero-shot CLIP on {r.name}: {r.trained} right, not {r.zeroshot}. "
                f"Try more images, {fewer}another method, or zero-shot CLIP itself: --method {baseline()}.",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )
    for line in _caveats(model, results):
        console.print(line, highlight=False, soft_wrap=True)
    if info.selected:
        chosen = ", ".join(f"{name} {value}" for name, value in info.selected.items())
        console.print(
            f"selected on {info.selected_on or 'the training images'}: {chosen}",
            highlight=False,
            soft_wrap=True,
        )
    epochs = f", {len(info.lr)} epochs in {info.seconds:.0f} s" if info.lr else ""
    console.print(
        f"model: {out} ({info.prompt.method} on {info.prompt.backbone}{epochs})",
        highlight=False,
        soft_wrap=True,
    )
    others = ' --classes "any,names"' if model.method_.transferable else ""
    console.print(f"try: cocoop predict {out} IMAGE{others}", highlight=False, soft_wrap=True)


def _caveats(model: PromptClassifier, results: Sequence[Result]) -> list[str]:
    lines = []
    if not results:
        lines.append("No class has an image to hold out, so nothing was measured.")
    elif results[0].images < FEW:
        lines.append(f"Few images: one of the held-out ones is {1 / results[0].images:.1%}.")
    if any("offered too" in result.name for result in results):
        lines.append("Without images of the new names, how well they are recognised cannot be measured.")
    if model.info_.prompt.backbone == EMBEDDED:
        lines.append("tiny-clip knows drawings, not photographs; for those use --backbone ViT-B-16/openai.")
    return lines
