"""The features of a folder's images: encoded in the background, those first that are waited for, and kept."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.data.decode import decode_photo
from cocoop.data.storage import UNREADABLE, read_file
from cocoop.data.views import TEST
from cocoop.errors import in_words
from cocoop.utils.display import reason
from cocoop.utils.files import default_cache, digest, write_bytes

FIRST, MOST = 16, 256  # images that are encoded at a time: at the beginning, and at most
SPAN = 1.0  # seconds that a number of images should take, so that others are not waited for long
KEEP_EVERY = 30.0  # seconds between two times that all features are written
BLANK = Image.new("RGB", (8, 8), "white")  # in the place of what cannot be read


class Features:
    """Image features by place, as far as they are there.

    Images are encoded in an order that spreads over the folder, so that groups of the first ones are groups
    of all; those at the beginning, which a person looks at, come first.

    Args:
        backbone: the frozen CLIP.
        root: the folder.
        changed: called after every few images, with the lock of the features not held.

    Attributes:
        raw: (n, d), as the image tower gives them.
        known: which of these are there.
        problems: why images cannot be read, by place.
        rate: seconds an image, lately; not a number before the first.
        error: why no more are encoded, or "".
        busy: whether there is more to encode, or to tell of.
    """

    raw: Float[np.ndarray, "n d"]
    known: Bool[np.ndarray, " n"]

    def __init__(self, backbone: Backbone, root: Path, changed: Callable[[], None]) -> None:
        self.backbone = backbone
        self.root = root
        self.raw = np.empty((0, backbone.embed_dim), np.float32)
        self.known = np.empty(0, bool)
        self.problems: dict[int, str] = {}
        self.rate = math.nan
        self.error = ""
        self.busy = True
        self._ids: list[str] = []
        self._paths: list[str] = []
        self._order: list[int] = []  # the last is the next
        self._changed = changed
        self._wake = threading.Condition()
        self._stopped = False
        self._kept_at = time.monotonic()
        about = ("studio", str(root), backbone.weights_digest, backbone.precision, repr(backbone.preprocess))
        self._file = default_cache() / "features" / "studio" / f"{digest(*about)}.safetensors"
        self._thread = threading.Thread(target=self._run, name="features", daemon=True)

    @property
    def left(self) -> int:
        """How many images are still to be encoded."""
        return len(self._ids) - int(self.known.sum()) - len(self.problems)

    @property
    def eta(self) -> float | None:
        """Seconds until all are there; None where that cannot be told."""
        return None if math.isnan(self.rate) else self.left * self.rate

    def start(self) -> None:
        """Begin to encode."""
        self._thread.start()

    def stop(self) -> None:
        """Encode no more, and keep what is there."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def add(self, ids: Sequence[str], paths: Sequence[str]) -> None:
        """Take in further images; features that were kept are there at once."""
        kept = {} if self._ids else self._read()
        with self._wake:
            first, count = len(self._ids), len(ids)
            self._ids += ids
            self._paths += paths
            self.raw = np.concatenate([self.raw, np.zeros((count, self.raw.shape[1]), np.float32)])
            self.known = np.append(self.known, np.zeros(count, bool))
            for place, identity in enumerate(ids, first):
                if identity in kept:
                    self.raw[place], self.known[place] = kept[identity], True
            places = [place for place in range(first, first + count) if not self.known[place]]
            rest = np.random.default_rng(0).permutation(places[FIRST:]).tolist()
            self.busy = bool(places)
            self._order = [*reversed([*places[:FIRST], *rest]), *self._order]
            self._wake.notify_all()

    def first(self, places: Sequence[int]) -> None:
        """Encode some images before the others."""
        with self._wake:
            self._order += [place for place in reversed(places) if not self.known[place]]
            self._wake.notify_all()

    def of(self, places: Sequence[int]) -> Float[Tensor, "n d"]:
        """Return the features of images that are known."""
        return torch.from_numpy(self.raw[list(places)])

    def _run(self) -> None:
        try:
            self._encode_all()
        except Exception as error:  # memory, a device that is gone
            self.error = in_words(error) or reason(error)
            self._changed()
            self.busy = False
        self._keep()

    def _encode_all(self) -> None:
        while places := self._next():
            start = time.monotonic()
            features, problems = self._encode(places)
            with self._wake:
                for place, feature in zip(places, features, strict=True):
                    if place in problems:
                        self.problems[place] = problems[place]
                    else:
                        self.raw[place], self.known[place] = feature, True
            each = max(1e-6, time.monotonic() - start) / len(places)
            self.rate = each if math.isnan(self.rate) else 0.8 * self.rate + 0.2 * each
            self._changed()
            if not self.left or time.monotonic() - self._kept_at > KEEP_EVERY:
                self._keep()

    def _next(self) -> list[int]:
        """Wait for images to encode; none where it is over."""
        with self._wake:
            size = FIRST if math.isnan(self.rate) else max(1, min(MOST, int(SPAN / self.rate)))
            while True:
                places: dict[int, None] = {}
                while self._order and len(places) < size:
                    place = self._order.pop()
                    if not self.known[place] and place not in self.problems:
                        places[place] = None
                if self._stopped:
                    return []
                if places:
                    return list(places)
                self.busy = False
                self._wake.wait()

    def _encode(self, places: Sequence[int]) -> tuple[Float[np.ndarray, "b d"], dict[int, str]]:
        problems: dict[int, str] = {}

        def read(place: int) -> Image.Image:
            try:
                return decode_photo(read_file(self.root / self._paths[place]))
            except UNREADABLE as error:
                problems[place] = reason(error)
                return BLANK

        pixels = self.backbone.preprocess.batch(places, TEST, read)
        return self.backbone.encode_image(pixels).numpy(), problems

    def _read(self) -> dict[str, np.ndarray]:
        """Return the features that were kept, by id."""
        try:
            found = load_file(self._file)
            ids, features = found["ids"].numpy(), found["features"].numpy()
        except (OSError, SafetensorError, KeyError):
            return {}
        if ids.ndim != 2 or features.shape != (len(ids), self.raw.shape[1]):
            return {}
        return {bytes(each).hex(): feature for each, feature in zip(ids, features, strict=True)}

    def _keep(self) -> None:
        """Write what is known; a cache on a full or read-only disk is only of no use."""
        with self._wake:
            places = np.flatnonzero(self.known)
            ids = "".join(self._ids[place] for place in places.tolist())
            features = torch.from_numpy(self.raw[places])
        if not len(places):
            return
        table = torch.frombuffer(bytearray.fromhex(ids), dtype=torch.uint8).reshape(len(places), -1)
        with suppress(OSError):
            write_bytes(self._file, save({"ids": table, "features": features}))
        self._kept_at = time.monotonic()
