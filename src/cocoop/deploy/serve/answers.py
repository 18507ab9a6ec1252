"""What models say about images, side by side: the one place that the page and the HTTP API ask.

Whatever a stranger sends is checked here, and refused with the status of HTTP that says why.
"""

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from cocoop.backbones.features import Encode
from cocoop.data.transforms import Preprocess
from cocoop.deploy.serve.limits import DEFAULT, Limits, Refused
from cocoop.deploy.serve.uploads import EncodedImage, Encoder, Unusable, Upload
from cocoop.errors import UsageError
from cocoop.estimator import PromptClassifier, ZeroShot
from cocoop.estimator.calibration import Answers
from cocoop.estimator.inputs import distinct, with_phrases
from cocoop.methods import baseline, facts_of

POLL = 0.05  # seconds between two looks whether somebody still waits for the answer
TEXTS_AT_ONCE = 1 << 10  # images times names between two looks at the clock
ZERO_SHOT = "zero-shot"
Top = tuple[tuple[str, float], ...]  # names with their probabilities


class Said(NamedTuple):
    """What one model says about one image; see `Answer`."""

    top: Top
    sure: bool | None
    labels: tuple[str, ...] | None


@dataclass(frozen=True)
class Answer:
    """What every model says about one image.

    Attributes:
        file: the name its sender gave it.
        thumbnail: a small JPEG of it; none where it cannot be read.
        tops: by model, its likeliest names with their probabilities, the likeliest first; of one name alone
            with its cosine, and where an image may have several with their scores.
        sure: by model, whether the image reaches its threshold; None where it has none for these names.
        candidates: how many names there were.
        refused: by model that takes none of these names, why.
        problem: why there is no answer at all: the image cannot be read, or is too large.
        labels: by model of several classes an image, those that this one has, of the highest score first.
    """

    file: str
    thumbnail: bytes
    tops: Mapping[str, Top]
    sure: Mapping[str, bool | None]
    candidates: int
    refused: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def confidence(self, model: str) -> float:
        """The probability or the score of a model's likeliest name."""
        return self.tops[model][0][1]


class SideBySide:
    """Trained models beside zero-shot CLIP on their backbones.

    One request is computed at a time; the others wait, up to a limit.

    Args:
        models: by the name shown, in the order shown; at least one.
        limits: what is refused.

    Raises:
        UsageError: a model adapts itself to test images, of which a request shows one view each.
    """

    def __init__(self, models: Mapping[str, PromptClassifier], limits: Limits = DEFAULT) -> None:
        for label, model in models.items():
            if (facts := facts_of(model.method)).sees_test_images:
                raise UsageError(
                    f"{label}: {facts.name} adapts itself to {facts.adaptation}; an answer on the page is "
                    "about one view of one image. Use cocoop predict for it"
                )
        self.limits = limits
        self.models = with_zero_shot(models)
        self.classes = next(
            (names for model in models.values() if (names := tuple(model.classes_.tolist()))), ()
        )
        self._encoder = Encoder(limits.pixels)
        self._towers: dict[str, tuple[Preprocess, Encode]] = {}
        self._tower_of: dict[str, str] = {}  # of every model: those that learn inside have one of their own
        for label, model in self.models.items():
            clip, own = model.load_backbone(), facts_of(model.method).cut != "feature"
            self._tower_of[label] = tower = label if own else clip.name
            self._towers[tower] = (clip.preprocess, model.encode if own else clip.encode_image)
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(limits.waiting)

    def answer(
        self,
        uploads: Sequence[Upload],
        names: Sequence[str],
        top_k: int,
        wanted: Callable[[], bool] = lambda: True,
    ) -> list[Answer]:
        """Return an answer for every image, in their order; of some that cannot be read it says why.

        Args:
            uploads: image files.
            names: candidates; none for the classes of the first model that has any.
            top_k: names an image, at most.
            wanted: whether somebody still waits for the answer, asked now and then.

        Raises:
            Refused: too much of something, or too many at once; no image can be read, or no model takes the
                names.
        """
        classes = self._checked(uploads, names)
        with self._computing(len(uploads), len(classes), wanted) as check:
            images = [self._encode(upload, check) for upload in uploads]
            read = [image for image in images if isinstance(image, EncodedImage)]
            if not read:
                raise next(image for image in images if isinstance(image, Unusable))
            columns, refused = self._columns(read, classes, top_k, check)
        answers, rows = [], count()
        for upload, image in zip(uploads, images, strict=True):
            if isinstance(image, Unusable):
                answers.append(Answer(upload.name, b"", {}, {}, len(classes), problem=image.message))
                continue
            row = next(rows)
            said = {label: column[row] for label, column in columns.items()}
            tops = {label: each.top for label, each in said.items()}
            sure = {label: each.sure for label, each in said.items()}
            labels = {label: each.labels for label, each in said.items() if each.labels is not None}
            about = (upload.name, image.thumbnail, tops, sure, len(classes), refused)
            answers.append(Answer(*about, labels=labels))
        return answers

    def _columns(
        self,
        images: Sequence[EncodedImage],
        classes: Sequence[str] | Mapping[str, Any],
        top_k: int,
        check: Callable[[], None],
    ) -> tuple[dict[str, list[Said]], dict[str, str]]:
        """Return by model what it says about every image, and by each that says nothing, why."""
        columns, refused = {}, {}
        for label, model in self.models.items():
            try:
                fimg = torch.cat([image.features[self._tower_of[label]] for image in images])
                columns[label] = _said(model, fimg, classes, top_k, check)
            except UsageError as error:  # a name that CLIP cannot read, or that this model cannot take
                refused[label] = str(error)
        if not columns:
            raise Refused(422, next(iter(refused.values())))
        return columns, refused

    def _checked(self, uploads: Sequence[Upload], names: Sequence[str]) -> Sequence[str] | Mapping[str, Any]:
        limits = self.limits
        if not uploads:
            raise Refused(422, "there is no image; send at least one")
        if len(uploads) > limits.images:
            raise Refused(413, f"{len(uploads)} images are too many at once; send at most {limits.images}")
        if len(names) > limits.classes:
            raise Refused(422, f"{len(names)} class names are too many; give at most {limits.classes}")
        if long := [name for name in names if len(name) > limits.name_length]:
            raise Refused(422, f"the name {long[0][:40]}… is longer than {limits.name_length} characters")
        if not names and not self.classes:
            raise Refused(422, "the models have no class names of their own; give some")
        try:
            classes = with_phrases(names) if names else self.classes
        except UsageError as error:
            raise Refused(422, str(error)) from None
        if isinstance(classes, Mapping) and sum(map(len, classes.values())) > limits.classes:
            raise Refused(422, f"there are more than {limits.classes} phrases; give fewer")
        return cast(Sequence[str] | Mapping[str, Any], classes)

    @contextmanager
    def _computing(self, images: int, names: int, wanted: Callable[[], bool]) -> Iterator[Callable[[], None]]:
        """Take a place, if there is one, and wait for the turn to compute.

        Yields what raises Refused where it takes too long, or where nobody waits for the answer any more.
        """

        def check() -> None:
            if not wanted():
                raise Refused(499, "nobody waits for the answer")
            if time.monotonic() > end:
                words = f"{images} images and {names} names take longer than {self.limits.computing:g} s"
                raise Refused(413, f"{words}; send fewer at once")

        if not self._places.acquire(blocking=False):
            raise Refused(429, "too many requests at once; try again in a few seconds")
        try:
            end = math.inf
            while not self._turn.acquire(timeout=POLL):
                check()
            try:
                end = time.monotonic() + self.limits.computing
                yield check
            finally:
                self._turn.release()
        finally:
            self._places.release()

    def _encode(self, upload: Upload, check: Callable[[], None]) -> EncodedImage | Unusable:
        """Decode and encode an image; one at a time, since photographs are large."""
        check()
        try:
            return self._encoder.encode(upload, self._towers)
        except Unusable as error:
            return error


def split_names(text: str) -> tuple[str, ...]:
    """Return the class names of a text, one a line or separated by commas, each once."""
    return distinct(" ".join(name.split()) for name in re.split(r"[,\n]", text) if name.strip())


def with_zero_shot(models: Mapping[str, PromptClassifier]) -> dict[str, PromptClassifier]:
    """Put zero-shot CLIP first, once a backbone, where no model is that already.

    Not beside models of several classes an image: without labelled images it has no scores of these.
    """
    first: dict[str, PromptClassifier] = {}  # of each backbone
    for model in models.values():
        if not model.info_.multilabel:
            first.setdefault(model.load_backbone().name, model)
    given = {model.load_backbone().name for model in models.values() if model.method == baseline()}
    zero_shot = {
        ZERO_SHOT if len(first) == 1 else f"{ZERO_SHOT} ({name})": ZeroShot(
            model.load_backbone(),
            template=model.info_.prompt.template,
            phrases=model.info_.prompt.phrases,
        )
        for name, model in first.items()
        if name not in given
    }
    return zero_shot | dict(models)


def _said(
    model: PromptClassifier,
    fimg: Float[Tensor, "n kd"],
    classes: Sequence[str] | Mapping[str, Any],
    top_k: int,
    check: Callable[[], None],
) -> list[Said]:
    """Return what a model says about every image."""
    names = list(classes)
    parts = []
    for part in fimg.split(max(1, TEXTS_AT_ONCE // len(names))):
        check()
        parts.append(model.answers(part, classes))
    answers = Answers(torch.cat([part.logits for part in parts]), torch.cat([part.cosines for part in parts]))
    several = model.info_.multilabel
    shares = model.inference.shares(answers.logits, names) if several or len(names) > 1 else answers.cosines
    values, places = shares.topk(max(1, min(top_k, len(names))))
    sure = model.sure_of(answers, names)
    flags = [None] * len(fimg) if sure is None else sure.tolist()
    rows = zip(values.tolist(), places.tolist(), strict=True)
    tops = [tuple((names[i], chance) for chance, i in zip(*row, strict=True)) for row in rows]
    labels = model.inference.named(answers, names) if several else [None] * len(fimg)
    return [Said(*each) for each in zip(tops, flags, labels, strict=True)]
