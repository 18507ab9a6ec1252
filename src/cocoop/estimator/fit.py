"""`cocoop fit`: train on the shots of a dataset, measure beside zero-shot CLIP, save, and say how it went."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from cocoop.data import DATASETS, Dataset, Item, is_source, open_dataset
from cocoop.data.splits import draw, select, validation_shots
from cocoop.errors import CocoopError, UsageError
from cocoop.estimator import ZeroShot, auto
from cocoop.estimator.calibration import FEWEST
from cocoop.estimator.card import Result
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.features import answered, encode, seen_by
from cocoop.estimator.fit_multilabel import fit_multilabel
from cocoop.estimator.fit_options import FitOptions
from cocoop.estimator.fit_output import say_results
from cocoop.estimator.folder import check_place
from cocoop.estimator.inputs import read_classes
from cocoop.estimator.shots import all_items, prepared, train_on_shots
from cocoop.methods import baseline
from cocoop.methods._hooks import views_of

__all__ = ["FitOptions", "fit"]


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
    check_place(options.out, overwrite=options.overwrite)
    if automatic := options.params["method"] == auto.AUTO:
        auto.check(options.params)
    data = open_dataset(options.data, options.root, options.names, options.reading, multilabel=True)
    if data.labels:
        return fit_multilabel(options, data, console)
    data, unknown, unknown_items = _unknown(data, options)
    fresh, fresh_items = _new_classes(options)
    method = baseline() if automatic else options.params["method"]
    model = PromptClassifier(
        **{**options.params, "method": method}, template=data.template, phrases=data.phrases
    )
    train = draw(data.splits, options.shots, model.seed)["train"]
    classes = {item.name for item in train}
    held_back = validation_shots(data.splits, options.shots, model.seed)
    held_back = tuple(item for item in held_back if item.name in classes)
    if not prepared(model, train, data, options, console, automatic):
        return model
    if automatic:
        fit_one = partial(train_on_shots, data=data, console=Console(quiet=True))
        best = auto.choose(model, data, train, held_back, fit_one, console, fresh is not None)
        model.set_params(method=best.method, preset=best.preset)
    zimg = encode(model.load_backbone(), data, data.items("test"), console)
    held = Tested("held-out images", data, data.items("test"), zimg, data.class_names)
    tests = [held, *_new_tests(model, held, fresh, fresh_items, console)]
    train_on_shots(model, train, held_back, data, console)
    zero = ZeroShot(model.backbone_, template=data.template, phrases=data.phrases)
    results = [_measure(model, zero, test) for test in tests if test.items]
    away = encode(model.backbone_, unknown, unknown_items, console) if unknown_items else None
    spare = data.splits.get("val", ())
    if len(spare) >= FEWEST:  # then the held-out images judge the calibration too
        held = replace(held, items=spare, zimg=encode(model.backbone_, data, spare, console))
    if len(held.items) >= FEWEST and views_of(model.method_).count == 1:
        seen = seen_by(model, held.data, held.items, held.zimg)
        others = None if away is None else seen_by(model, unknown, unknown_items, away)
        model.calibrate_features(seen, held.truth, others, f"the images of {options.unknown}")
    model.save(options.out, results, options.overwrite)
    say_results(model, results, options.out, console)
    return model


def _unknown(data: Dataset, options: FitOptions) -> tuple[Dataset, Dataset, tuple[Item, ...]]:
    """Return the data without a class that stands for none, and the images of none with theirs."""
    given = options.unknown
    if given is None:
        return data, data, ()
    if given in data.class_names:
        return without(data, given), data, tuple(item for item in all_items(data) if item.name == given)
    others = options.open_unknown(data)
    return data, others, all_items(others)


def without(data: Dataset, name: str) -> Dataset:
    """Return a dataset without one of its classes. Raises CocoopError where fewer than two are left."""
    if len(data.class_names) < 3:
        raise CocoopError(f"without {name!r}, {data.name} has fewer than two classes")
    kept = [label for label, each in enumerate(data.class_names) if each != name]
    return replace(data, splits={split: select(items, kept) for split, items in data.splits.items()})


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
    return data, all_items(data)


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
