"""`cocoop predict`: names for a person's files, a batch at a time; bad files are reported and skipped."""

import csv
import glob
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from cocoop.data.decode import to_image
from cocoop.data.own.folder import list_images
from cocoop.errors import CocoopError, UsageError
from cocoop.estimator.estimator import PromptClassifier
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


@dataclass(frozen=True)
class Prediction:
    """What the model says about one file.

    Attributes:
        path: of the file.
        top: the likeliest names with their probabilities, the likeliest first.
        sure: whether the first one reaches the confidence asked for.
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


def predict(
    model: PromptClassifier,
    paths: Sequence[Path],
    classes: Sequence[str] | None,
    top_k: int,
    min_confidence: float,
    err: Console,
) -> Iterator[Prediction]:
    """Yield a prediction for every file that can be read; report the others on `err`.

    What the model's `testing` leaves open is settled by the number of files. A method that adapts itself to
    other images than the one it answers sees all files first: for a stream they come in their order.

    Raises:
        CocoopError: none of the files can be read.
    """
    classifier = model.classifier(classes)
    names, mode = classifier.class_names, model.testing_mode(len(paths), classes)
    model = model.set_params(testing=mode)
    if mode != "exact":
        err.print(SAYS[mode], highlight=False, soft_wrap=True)
    encoded = _encoded(model, paths, err)
    if classifier.method.facts.adapts_to in ("stream", "whole set"):
        encoded = _at_once(encoded)
    for read, features in encoded:
        shares = model.logits(features, classes).softmax(1)
        values, places = torch.topk(shares, min(top_k, len(names)))
        for path, chances, best in zip(read, values.tolist(), places.tolist(), strict=True):
            top = tuple((names[i], chance) for i, chance in zip(best, chances, strict=True))
            yield Prediction(_shown(path), top, chances[0] >= min_confidence, mode)


def _encoded(
    model: PromptClassifier, paths: Sequence[Path], err: Console
) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield files that can be read with the features of what the model looks at, a batch at a time."""
    clip, views = model.load_backbone(), views_of(model.method_).of(model.seed, 1)
    bad, size = 0, max(1, BATCH // len(views))
    with progress("predicting", len(paths), err, hidden=sys.stdout.isatty()) as advance:
        for start in range(0, len(paths), size):
            some = paths[start : start + size]
            read, pixels = [], []
            for path in some:
                try:
                    image = to_image(path)
                    pixels += [clip.preprocess.batch([image], view) for view in views]  # small at once
                    read.append(path)
                except CocoopError as error:
                    bad += 1
                    err.print(f"skipped: {error}", highlight=False, soft_wrap=True)
            if read:
                yield read, clip.encode_image(torch.cat(pixels)).view(len(read), len(views), -1)
            advance(len(some))
    if bad == len(paths):
        raise CocoopError("none of the files can be read as an image")
    if bad:
        err.print(f"{bad} of {len(paths)} files were skipped", highlight=False)


def _at_once(encoded: Iterator[tuple[list[Path], Tensor]]) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield all batches as one."""
    paths, features = zip(*encoded, strict=True)
    yield [path for each in paths for path in each], torch.cat(features)


def find_images(words: Sequence[str]) -> list[Path]:
    """Return the files that words mean: a file, all images below a folder, or a pattern such as "*.png".

    Raises:
        UsageError: a word means nothing, or a folder holds no images.
    """
    paths: dict[Path, None] = {}
    for word in words:
        path = Path(word).expanduser()
        if not word:
            raise UsageError("an image has an empty name")
        if path.is_dir():
            files = list_images(path)
            if not files:
                raise UsageError(f"there are no images in the folder {word}")
        elif os.path.lexists(path):
            files = [path]
        else:
            files = sorted(each for each in map(Path, glob.glob(str(path), recursive=True)) if each.is_file())
            if not files:
                raise UsageError(f"there is no file, folder or match for {word}")
        paths.update(dict.fromkeys(files))
    return list(paths)


def as_table(predictions: Iterator[Prediction], paths: Sequence[Path]) -> Iterator[str]:
    """Yield a line for each prediction, the names under each other."""
    width = min(WIDEST, max(len(on_one_line(_shown(path))) for path in paths))
    for each in predictions:
        rest = [f"{name} {chance:.0%}" for name, chance in (each.top[1:] if each.sure else each.top)]
        first = f"{each.top[0][0]} {each.top[0][1]:.0%}" if each.sure else UNSURE
        more = f"  ({', '.join(rest)})" if rest else ""
        yield f"{on_one_line(each.path):{width}}  {on_one_line(first + more)}\n"


def as_json(predictions: Iterator[Prediction]) -> Iterator[str]:
    """Yield the pieces of a JSON list with an object for each prediction."""
    before = "["
    for each in predictions:
        top = [{"name": name, "probability": round(chance, 6)} for name, chance in each.top]
        rough = {} if each.testing == "exact" else {"testing": each.testing}
        line = readable_json({"path": each.path, "name": each.name, "top": top, **rough})
        yield f"{before}\n  {line}"
        before = ","
    yield "\n]\n"


def as_csv(predictions: Iterator[Prediction], columns: int) -> Iterator[str]:
    """Yield CSV lines: path, name, and the likeliest names with their probabilities.

    A text that a spreadsheet would take for a formula has an apostrophe put before it.
    """
    numbers = range(1, columns + 1)
    yield _line(["path", "name", *(f"{what}_{i}" for i in numbers for what in ("name", "probability"))])
    for each in predictions:
        top = [value for name, chance in each.top for value in (harmless(name), f"{chance:.6f}")]
        yield _line([harmless(each.path), harmless(each.name or ""), *top])


WRITERS: dict[str, Callable[[Iterator[Prediction], Sequence[Path], int], Iterator[str]]] = {
    "table": lambda predictions, paths, columns: as_table(predictions, paths),
    "json": lambda predictions, paths, columns: as_json(predictions),
    "csv": lambda predictions, paths, columns: as_csv(predictions, columns),
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
