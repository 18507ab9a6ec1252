"""`cocoop fit` where an image may have several classes or none: mAP and F1 beside zero-shot CLIP's."""

import random
from dataclasses import replace

from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from cocoop.data import Dataset
from cocoop.data.own.multilabel import few_shot
from cocoop.errors import CocoopError, UsageError
from cocoop.estimator import ZeroShot, auto
from cocoop.estimator.calibration import FEWEST
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.features import encode, seen_by
from cocoop.estimator.fit_options import FitOptions
from cocoop.estimator.fit_output import say_several
from cocoop.estimator.multilabel import LabelMetrics, LabelResult, cross_tuned, measure
from cocoop.estimator.shots import all_items, prepared, train_on_shots, truth_of
from cocoop.estimator.train import check_multilabel
from cocoop.training.multilabel import targets


def fit_multilabel(options: FitOptions, data: Dataset, console: Console) -> PromptClassifier:
    """Train, measure, save and report; return the model. Nothing is written where anything fails before.

    Raises:
        UsageError: a wrong setting, a method that takes one class an image, or an option that does.
        CocoopError: the data are not as they should be, or an image cannot be read.
    """
    _check(options)
    data, others = _unknown(data, options)
    model = PromptClassifier(**options.params, template=data.template, phrases=data.phrases)
    check_multilabel(model.choice)
    rng = random.Random(model.seed)
    train = few_shot(data.items("train"), data.labels, options.shots, rng)
    if not prepared(model, train, data, options, console):
        return model
    clip = model.load_backbone()
    spare = data.splits.get("val", ())
    zimg = {
        split: encode(clip, data, data.items(split), console) for split in ("test", *["val"] * bool(spare))
    }
    zero = ZeroShot(clip, template=data.template, phrases=data.phrases)
    for each in (zero, model):
        train_on_shots(each, train, (), data, console)
    seen = {part: seen_by(model, data, data.items(part), each) for part, each in zimg.items()}
    away = encode(clip, others, all_items(others), console) if others else None
    if others is not None and away is not None:
        away = seen_by(model, others, all_items(others), away)
    results = [
        LabelResult(
            name="held-out images",
            classes=len(data.class_names),
            images=len(zimg["test"]),
            zeroshot=measured(zero, data, zimg["test"]),
            trained=measured(model, data, seen["test"]),
        )
        for _ in zimg["test"][:1]  # where a class has one image, none may be held out
    ]
    split = "val" if len(spare) >= FEWEST else "test"
    if len(data.items(split)) >= FEWEST:
        model.calibrate_features(seen[split], truth_of(data, data.items(split)), away)
    several = model.info_.multilabel
    assert several
    update = {"multilabel": several.model_copy(update={"results": results})}
    model.info_ = model.info_.model_copy(update=update)
    model.save(options.out, overwrite=options.overwrite)
    say_several(model, results, options.out, console)
    return model


def _check(options: FitOptions) -> None:
    """Raise UsageError for what is measured by one class an image."""
    if options.params["method"] == auto.AUTO:
        raise UsageError("--method auto chooses by one class an image; name a method, e.g. coop")
    if options.new_classes:
        raise UsageError(
            "--new-classes measures one class an image; fit without it, and evaluate on data of the new names"
        )


def _unknown(data: Dataset, options: FitOptions) -> tuple[Dataset, Dataset | None]:
    """Return the data without a class that stands for none of the others, and data of such images.

    Raises:
        UsageError: what was given is neither.
        CocoopError: an image of the class that stands for none has others beside it.
    """
    given = options.unknown
    if given is None:
        return data, None
    if given in data.class_names:
        mixed = [path for path, names in data.labels.items() if given in names and len(names) > 1]
        if mixed:
            raise CocoopError(
                f"{given!r} is to stand for none of the classes, but {mixed[0]} has others beside it"
            )
        labels = {path: () if given in names else names for path, names in data.labels.items()}
        return replace(data, labels=labels), None
    return data, options.open_unknown(data)


def measured(model: PromptClassifier, data: Dataset, zimg: Float[Tensor, "n d"]) -> LabelMetrics:
    """Return what a model is worth on the held-out images, by thresholds that their other half chose."""
    found, names = model.info_.multilabel, data.class_names
    assert found
    truth = targets([data.names_of(item) for item in data.items("test")], names).bool()
    logits = model.logits(zimg, names)
    scores = found.scores(logits, names)
    few = len(truth) < FEWEST
    return measure(scores, truth, found.passing(scores, names) if few else cross_tuned(found, logits, truth))
