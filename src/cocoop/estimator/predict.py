"""`cocoop predict`: names for a person's files, a batch at a time; bad files are reported and skipped."""

import csv
import glob
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from cocoop.backbones.pretrained import SHIPPED
from cocoop.data.decode import to_image
from cocoop.data.own.folder import list_images
from cocoop.errors import CocoopError, UsageError
from cocoop.estimator.backbone import is_drawn, unknown_to_it
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.inputs import Classes
from cocoop.estimator.progress import progress
from cocoop.methods._hooks import views_of
from cocoop.training.modes import TestingMode
from cocoop.utils.display import harmless, on_one_line, readable_json

BATCH = 64  # views of images held at a time
UNSURE = "unsure"
SAYS = {
    "screened": "screened: exact for the likeliest names of each image, an approximation for the others; "
    "--testing exact computes all",
    "linear": "linear: all probabilities are approximations; --testing exact computes them exactly",
}
WIDEST = 60  # characters of a path in a table
Measure = Literal["probability", "similarity"]


@dataclass(frozen=True)
class Prediction:
    """What the model says about one file.

    Attributes:
        path: of the file.
        top: the likeliest names with their probabilities or similarities, the likeliest first.
        sure: whether the first one reaches what was asked for, or the model's threshold.
        testing: how its logits were computed.
    """

    path: str
    top: tuple[tuple[str, float], ...]
    sure: bool
    testing: TestingMode = "exact"

    @property
    def name(self) -> str | None:
        """The likeliest name, or None where that is not sure."""
        return self.top[0][0] if self.sure else None


def measure_of(model: PromptClassifier, classes: Classes | None, similarity: bool) -> Measure:
    """Return what names are given with: of one name alone the similarity, as its probability is always 1."""
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
        min_confidence: the probability below which an answer is unsure; None for the model's threshold.
        err: where files that cannot be read are reported.
        by: what is given with a name.

    Raises:
        UsageError: a probability is asked for where there is one name alone.
        CocoopError: none of the files can be read.
    """
    classifier = model.classifier(classes)
    names, mode = classifier.class_names, model.testing_mode(len(paths), classes)
    if min_confidence and len(names) == 1:
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
            if clip.name in SHIPPED and drawn and sum(drawn) * 2 < len(drawn):
                about = unknown_to_it(clip.name)
                err.print(f"warning: {about}", style="yellow", highlight=False, soft_wrap=True)
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
    shares = (answers.logits / model.temperature).softmax(1)
    sure = model.sure_of(answers, names) if min_confidence is None else shares.amax(1) >= min_confidence
    values, places = torch.topk(answers.cosines if by == "similarity" else shares, top_k)
    rows = zip(paths, values.tolist(), places.tolist(), strict=True)
    for row, (path, chances, best) in enumerate(rows):
        top = tuple((names[i], chance) for i, chance in zip(best, chances, strict=True))
        yield Prediction(_shown(path), top, sure is None or bool(sure[row]), mode)


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


def as_table(
    predictions: Iterator[Prediction], paths: Sequence[Path], by: Measure = "probability"
) -> Iterator[str]:
    """Yield a line for each prediction, the names under each other."""
    form = "{} {:.0%}" if by == "probability" else "{} {:.3f}"
    width = min(WIDEST, max(len(on_one_line(_shown(path))) for path in paths))
    for each in predictions:
        rest = [form.format(*one) for one in (each.top[1:] if each.sure else each.top)]
        first = form.format(*each.top[0]) if each.sure else UNSURE
        more = f"  ({', '.join(rest)})" if rest else ""
        yield f"{on_one_line(each.path):{width}}  {on_one_line(first + more)}\n"


def as_json(predictions: Iterator[Prediction], by: Measure = "probability") -> Iterator[str]:
    """Yield the pieces of a JSON list with an object for each prediction."""
    before = "["
    for each in predictions:
        top = [{"name": name, by: round(chance, 6)} for name, chance in each.top]
        rough = {} if each.testing == "exact" else {"testing": each.testing}
        line = readable_json({"path": each.path, "name": each.name, "top": top, **rough})
        yield f"{before}\n  {line}"
        before = ","
    yield "\n]\n"


def as_csv(predictions: Iterator[Prediction], columns: int, by: Measure = "probability") -> Iterator[str]:
    """Yield CSV lines: path, name, and the likeliest names with their probabilities or similarities.

    A text that a spreadsheet would take for a formula has an apostrophe put before it.
    """
    numbers = range(1, columns + 1)
    yield _line(["path", "name", *(f"{what}_{i}" for i in numbers for what in ("name", by))])
    for each in predictions:
        top = [value for name, chance in each.top for value in (harmless(name), f"{chance:.6f}")]
        yield _line([harmless(each.path), harmless(each.name or ""), *top])


WRITERS: dict[str, Callable[[Iterator[Prediction], Sequence[Path], int, Measure], Iterator[str]]] = {
    "table": lambda predictions, paths, columns, by: as_table(predictions, paths, by),
    "json": lambda predictions, paths, columns, by: as_json(predictions, by),
    "csv": lambda predictions, paths, columns, by: as_csv(predictions, columns, by),
}


def write(pieces: Iterator[str]) -> None:
    """Write pieces to stdout as they come."""
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()


def _line(values: Sequence[str]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(values)
    return file.getvalue()


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "replace")
