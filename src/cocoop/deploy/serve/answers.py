"""What models say about images, side by side: the one place that the page and the HTTP API ask.

Whatever a stranger sends is checked here, and refused with the status of HTTP that says why.
"""

import hashlib
import io
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from cocoop.data.decode import FORMATS, decode_photo
from cocoop.data.storage import UNREADABLE
from cocoop.deploy.serve.limits import DEFAULT, Limits, Refused
from cocoop.errors import UsageError
from cocoop.estimator import PromptClassifier, ZeroShot
from cocoop.estimator.calibration import Answers
from cocoop.estimator.inputs import distinct, with_phrases
from cocoop.methods import baseline

KEPT = 512  # images whose features are kept, so that editing names does not encode them again
THUMBNAIL = 240  # pixels; shown at half of that on fine screens
POLL = 0.05  # seconds between two looks whether somebody still waits for the answer
TEXTS_AT_ONCE = 1 << 10  # images times names between two looks at the clock
ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Upload:
    """One file as it was sent: the name its sender gave it, and its bytes, read when its turn comes."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class EncodedImage:
    """What is kept of an image: a small JPEG to show, and its features (1, d) by backbone."""

    thumbnail: bytes
    features: Mapping[str, Tensor]


@dataclass(frozen=True)
class Answer:
    """What every model says about one image.

    Attributes:
        file: the name its sender gave it.
        thumbnail: a small JPEG of it.
        tops: by model, its likeliest names with their probabilities, the likeliest first; of one name alone
            with its cosine.
        sure: by model, whether the image reaches its threshold; None where it has none for these names.
        candidates: how many names there were.
    """

    file: str
    thumbnail: bytes
    tops: Mapping[str, tuple[tuple[str, float], ...]]
    sure: Mapping[str, bool | None]
    candidates: int

    def confidence(self, model: str) -> float:
        """The probability of a model's likeliest name."""
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
            if (facts := model.choice.facts).sees_test_images:
                raise UsageError(
                    f"{label}: {facts.name} adapts itself to {facts.adaptation}; an answer on the page is "
                    "about one view of one image. Use cocoop predict for it"
                )
        self.limits = limits
        self.models = with_zero_shot(models)
        self.classes = next(
            (names for model in models.values() if (names := tuple(model.classes_.tolist()))), ()
        )
        self._encoded: OrderedDict[str, EncodedImage] = OrderedDict()  # by the digest of the file
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(limits.waiting)

    def answer(
        self,
        uploads: Sequence[Upload],
        names: Sequence[str],
        top_k: int,
        wanted: Callable[[], bool] = lambda: True,
    ) -> list[Answer]:
        """Return an answer for every image.

        Args:
            uploads: image files.
            names: candidates; none for the classes of the first model that has any.
            top_k: names an image, at most.
            wanted: whether somebody still waits for the answer, asked now and then.

        Raises:
            Refused: too much of something, an image or name that cannot be used, or too many at once.
        """
        classes = self._checked(uploads, names)
        names = list(classes)
        with self._computing(len(uploads), len(names), wanted) as check:
            images = [self._encode(upload, check) for upload in uploads]
            columns = {
                label: _tops(model, images, classes, top_k, check) for label, model in self.models.items()
            }
        return [
            Answer(
                upload.name,
                image.thumbnail,
                {label: column[row][0] for label, column in columns.items()},
                {label: column[row][1] for label, column in columns.items()},
                len(names),
            )
            for row, (upload, image) in enumerate(zip(uploads, images, strict=True))
        ]

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

    def _encode(self, upload: Upload, check: Callable[[], None]) -> EncodedImage:
        """Decode and encode an image that is not known yet; one at a time, since photographs are large."""
        check()
        data = upload.read()
        key = hashlib.sha256(data).hexdigest()
        if key not in self._encoded:
            image = self._open(upload.name, data)
            backbones = {
                clip.name: clip for clip in (model.load_backbone() for model in self.models.values())
            }
            features = {
                name: clip.encode_image(clip.preprocess.test(image)[None]) for name, clip in backbones.items()
            }
            self._encoded[key] = EncodedImage(_thumbnail(image), features)
        self._encoded.move_to_end(key)
        if len(self._encoded) > KEPT:
            self._encoded.popitem(last=False)
        return self._encoded[key]

    def _open(self, name: str, data: bytes) -> Image.Image:
        """Decode an image whose size is allowed."""
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                pixels = image.width * image.height
            if pixels <= self.limits.pixels:
                return decode_photo(data)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            pass
        except UNREADABLE:
            kinds = ", ".join(FORMATS)
            raise Refused(415, f"{name} is no image that can be read; send one of {kinds}") from None
        raise Refused(413, f"{name} has more than {self.limits.pixels:,} pixels; make it smaller")


def split_names(text: str) -> tuple[str, ...]:
    """Return the class names of a text, one a line or separated by commas, each once."""
    return distinct(" ".join(name.split()) for name in re.split(r"[,\n]", text) if name.strip())


def with_zero_shot(models: Mapping[str, PromptClassifier]) -> dict[str, PromptClassifier]:
    """Put zero-shot CLIP first, once a backbone, where no model is that already."""
    first: dict[str, PromptClassifier] = {}  # of each backbone
    for model in models.values():
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


def _tops(
    model: PromptClassifier,
    images: Sequence[EncodedImage],
    classes: Sequence[str] | Mapping[str, Any],
    top_k: int,
    check: Callable[[], None],
) -> list[tuple[tuple[tuple[str, float], ...], bool | None]]:
    """Return the likeliest names of every image with their probabilities, and whether it is sure."""
    names = list(classes)
    zimg = torch.cat([image.features[model.load_backbone().name] for image in images])
    parts = []
    for part in zimg.split(max(1, TEXTS_AT_ONCE // len(names))):
        check()
        try:
            parts.append(model.answers(part, classes))
        except UsageError as error:  # a name CLIP cannot read, or one this model cannot take
            raise Refused(422, str(error)) from None
    answers = Answers(torch.cat([part.logits for part in parts]), torch.cat([part.cosines for part in parts]))
    shares = (answers.logits / model.temperature).softmax(1) if len(names) > 1 else answers.cosines
    values, places = shares.topk(max(1, min(top_k, len(names))))
    sure = model.sure_of(answers, names)
    flags = [None] * len(zimg) if sure is None else sure.tolist()
    rows = zip(values.tolist(), places.tolist(), strict=True)
    tops = [tuple((names[i], chance) for chance, i in zip(*row, strict=True)) for row in rows]
    return list(zip(tops, flags, strict=True))


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()
