"""`cocoop predict`: names for a person's files, a batch at a time; bad files are reported and skipped."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from cocoop.backbones.pretrained import SHIPPED
from cocoop.data.decode import to_image
from cocoop.data.drawn import is_drawn
from cocoop.data.own.folder import list_images
from cocoop.errors import CocoopError, UsageError
from cocoop.estimator.backbone import unknown_to_it, warn
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.inputs import Classes
from cocoop.estimator.progress import progress
from cocoop.methods._hooks import views_of
from cocoop.training.modes import TestingMode

BATCH = 64  # views of images held at a time
SAYS = {
    "screened": "screened: exact for the likeliest names of each image, an approximation for the others; "
    "--testing exact computes all",
    "linear": "linear: all probabilities are approximations; --testing exact computes them exactly",
}
Measure = Literal["probability", "similarity", "score"]


@dataclass(frozen=True)
class Prediction:
    """What the model says about one file.

    Attributes:
        path: of the file.
        top: the likeliest names with their probabilities, similarities or scores, the likeliest first.
        sure: whether the first one reaches what was asked for, or the model's threshold.
        testing: how its logits were computed.
        names: where an image may have several, those that reach it, the likeliest first; else None.
    """

    path: str
    top: tuple[tuple[str, float], ...]
    sure: bool
    testing: TestingMode = "exact"
    names: tuple[str, ...] | None = None

    @property
    def name(self) -> str | None:
        """The likeliest name, or None where that is not sure."""
        return self.top[0][0] if self.sure else None


def measure_of(model: PromptClassifier, classes: Classes | None, similarity: bool) -> Measure:
    """Return what names are given with: of one name alone the similarity, as its probability is always 1.

    A model of several classes an image has a score for each.
    """
    if not similarity and model.info_.multilabel:
        return "score"
    alone = len(model.classifier(classes).class_names) == 1
    return "similarity" if similarity or alone else "probability"


def predict(
    model: PromptClassifier,
    paths: Sequence[Path],
    classes: Classes | None,
    top_k: int,
    min_confidence: float | None,
    err: Console,
    by: Measure = "probability",
) -> Iterator[Prediction]:
    """Yield a prediction for every file that can be read; report the others on `err`.

    What the model's `testing` leaves open is settled by the number of files. A method that adapts itself to
    other images than the one it answers sees all files first: for a stream they come in their order.

    Args:
        model: to ask.
        paths: of the files.
        classes: candidates; None for those of the model.
        top_k: names an image, at most.
        min_confidence: the probability below which an answer is unsure, or the score below which a class is
            not given; None for the model's thresholds.
        err: where files that cannot be read are reported.
        by: what is given with a name.

    Raises:
        UsageError: a probability is asked for where there is one name alone.
        CocoopError: none of the files can be read.
    """
    classifier = model.classifier(classes)
    names, mode = classifier.class_names, model.testing_mode(len(paths), classes)
    if min_confidence and len(names) == 1 and not model.info_.multilabel:
        raise UsageError("--min-confidence needs two names or more; one alone has the probability 1")
    model = model.set_params(testing=mode)
    if mode != "exact":
        err.print(SAYS[mode], highlight=False, soft_wrap=True)
    encoded = _encoded(model, paths, err)
    if classifier.method.facts.adapts_to in ("stream", "whole set"):
        encoded = _at_once(encoded)
    for read, features in encoded:
        yield from _named(model, features, read, classes, min(top_k, len(names)), min_confidence, by, mode)


def _encoded(
    model: PromptClassifier, paths: Sequence[Path], err: Console
) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield files that can be read with the features of what the model looks at, a batch at a time."""
    clip, views = model.load_backbone(), views_of(model.method_).of(model.seed, 1)
    bad, size, looked = 0, max(1, BATCH // len(views)), False
    with progress("predicting", len(paths), err, hidden=sys.stdout.isatty()) as advance:
        for start in range(0, len(paths), size):
            some = paths[start : start + size]
            read, pixels, drawn = [], [], []
            for path in some:
                try:
                    image = to_image(path)
                    pixels += [clip.preprocess.batch([image], view) for view in views]  # small at once
                    read.append(path)
                    drawn += [] if looked else [is_drawn(image)]
                except CocoopError as error:
                    bad += 1
                    err.print(f"skipped: {error}", highlight=False, soft_wrap=True)
            if clip.name in SHIPPED and drawn:
                warn(unknown_to_it(clip.name, sum(drawn) * 2 < len(drawn)), err)
            looked = looked or bool(drawn)
            if read:
                yield read, model.encode(torch.cat(pixels)).view(len(read), len(views), -1)
            advance(len(some))
    if bad == len(paths):
        raise CocoopError("none of the files can be read as an image")
    if bad:
        err.print(f"{bad} of {len(paths)} files were skipped", highlight=False)


def _at_once(encoded: Iterator[tuple[list[Path], Tensor]]) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield all batches as one."""
    paths, features = zip(*encoded, strict=True)
    yield [path for each in paths for path in each], torch.cat(features)


def _named(
    model: PromptClassifier,
    fimg: Float[Tensor, "n v d"],
    paths: Sequence[Path],
    classes: Classes | None,
    top_k: int,
    min_confidence: float | None,
    by: Measure,
    mode: TestingMode,
) -> Iterator[Prediction]:
    """Yield the predictions of some images by their features."""
    names, answers = model.classifier(classes).class_names, model.answers(fimg, classes)
    shares = model.inference.shares(answers.logits, names)
    sure = model.sure_of(answers, names) if min_confidence is None else shares.amax(1) >= min_confidence
    values, places = torch.topk(answers.cosines if by == "similarity" else shares, top_k)
    given = model.inference.named(answers, names, min_confidence) if model.info_.multilabel else None
    rows = zip(paths, values.tolist(), places.tolist(), strict=True)
    for row, (path, chances, best) in enumerate(rows):
        top = tuple((names[i], chance) for i, chance in zip(best, chances, strict=True))
        named = given[row] if given is not None else None
        yield Prediction(shown(path), top, sure is None or bool(sure[row]), mode, named)


def find_images(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the files that words mean: a file, all images below a folder, or a pattern such as "*.png".

    Beside them, what is said of images in folders that are of kinds that are not read.

    Raises:
        UsageError: a word means nothing, or a folder holds no images.
    """
    paths: dict[Path, None] = {}
    left: dict[str, None] = {}
    for word in words:
        path = Path(word).expanduser()
        if not word:
            raise UsageError("an image has an empty name")
        if path.is_dir():
            files, warnings = list_images(path)
            if not files:
                more = f" ({warnings[0]})" if warnings else ""
                raise UsageError(f"there are no images in the folder {word}{more}")
            left |= dict.fromkeys(warnings)
        elif os.path.lexists(path):
            files = [path]
        else:
            files = sorted(each for each in map(Path, glob.glob(str(path), recursive=True)) if each.is_file())
            if not files:
                raise UsageError(f"there is no file, folder or match for {word}")
        paths.update(dict.fromkeys(files))
    return list(paths), list(left)


def shown(path: Path) -> str:
    """Return a path as text, also one whose bytes are none."""
    return os.fsencode(path).decode("utf-8", "replace")
