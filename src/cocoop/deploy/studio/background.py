"""What is found out of features, names and labels while a person goes on, in a thread.

Each of the findings depends on some of what is known, and is made again when that has changed. The most
urgent comes first: the names that are suggested, then groups, what to label next, and labels that look wrong.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cocoop.deploy.studio import suggest
from cocoop.deploy.studio.learned import Learned
from cocoop.deploy.studio.listing import Found
from cocoop.deploy.studio.names import Name
from cocoop.errors import UsageError

if TYPE_CHECKING:  # the page is there before torch is loaded
    from cocoop.deploy.studio.texts import NameTexts

SETTLED = 0.25  # seconds without a new label, after which what follows from labels is made anew
TYPICAL = 8  # images that are shown of a group
AT_ONCE = 1024  # images that a model answers for at a time
GROWTH = 12.0  # times more often than at every doubling that early findings are made anew


@dataclass(frozen=True)
class Known:
    """What is known at one moment.

    Attributes:
        names: the person's.
        labels: of the images.
        raw: their features.
        there: which of these are there.
        whole: whether all are.
        learned: the model; None without one.
        texts: of the names.
        found: what was found out so far.
    """

    names: tuple[Name, ...]
    labels: Int[np.ndarray, " n"]
    raw: Float[np.ndarray, "n d"]
    there: Bool[np.ndarray, " n"]
    whole: bool
    learned: Learned | None
    texts: "NameTexts"
    found: Found

    def amount(self, growth: float) -> int:
        """Return a number that changes when there are that much more features, and when all are there."""
        count = int(self.there.sum())
        return -len(self.there) - 1 if self.whole else int(growth * math.log2(count + 1))

    def unit(self) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k d"]]:
        """Return the places of images with features, and these with length 1."""
        places = np.flatnonzero(self.there)
        rows = self.raw[places]
        return places, rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


Stale = Callable[[], bool]  # whether what is being made is not wanted any more


class StaleError(Exception):
    """Raised to leave what is not wanted any more."""


class Background:
    """The thread that finds things out.

    Args:
        known: gives what is known now.
        publish: takes what was found out.
        failed: takes what went wrong.
    """

    def __init__(
        self,
        known: Callable[[], Known],
        publish: Callable[[Mapping[str, Any]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._known, self._publish, self._failed = known, publish, failed
        self._wake = threading.Condition()
        self._changed = self._labelled = 0.0
        self._stopped = self._due = False
        self._made: dict[str, object] = {}
        self.busy = True
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being made."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        self._thread.join(timeout=30)

    def notify(self, labels: bool = False) -> None:
        """Say that something has changed, labels among it."""
        with self._wake:
            self._due = self.busy = True
            if labels:
                self._labelled = time.monotonic()
            self._wake.notify_all()

    def _run(self) -> None:
        while not self._stopped:
            with self._wake:
                self._due = False
            if not self._make_one():
                self._sleep()

    def _sleep(self) -> None:
        with self._wake:
            while not (self._due or self._stopped):
                self.busy = False
                self._wake.wait()

    def _make_one(self) -> bool:
        """Make what is due and most urgent; return whether there was anything."""
        known = self._known()
        for name, (key_of, _) in STAGES.items():
            if self._made.get(name) == (key := key_of(known)):
                continue
            if name in AFTER_LABELS and (rest := self._labelled + SETTLED - time.monotonic()) > 0:
                with self._wake:
                    self._wake.wait(rest)
                return True
            self._make(name, key, known)
            return True
        return False

    def _make(self, name: str, key: object, known: Known) -> None:
        key_of, make = STAGES[name]
        try:
            found = make(known, lambda: self._stopped or key_of(self._known()) != key)
            self._publish(found)
        except StaleError:
            return
        except Exception as error:  # memory, a name that breaks a tokenizer: the others go on
            self._failed(error)
        self._made[name] = key


def _suggested(known: Known, stale: Stale) -> dict[str, Any]:
    places = np.flatnonzero(known.there)
    _, problems = known.texts.of(known.names)
    said = known.texts.doubts(known.names) | problems
    names = tuple(each for each in known.names if each.name not in problems)
    count = len(known.there)
    shown = min(suggest.SHOWN, max(1, len(names)))
    tops = suggest.Tops(
        np.full((count, shown), -1, np.int32),
        np.full((count, shown), -1, np.float32),
        np.full(count, -1, np.float32),
    )
    if len(names) < 2:  # one name alone would be certain, whatever the image
        return {"names": names, "problems": said, "tops": tops, "by": "", "why": ""}
    by, why, ask = "zero-shot", "", None
    if known.learned is not None:
        try:
            by, ask = "model", known.learned.among(names)
        except UsageError as error:
            by, why = "zero-shot", f"{error}; zero-shot CLIP answers until it is trained again"
    for start in range(0, len(places), AT_ONCE):
        if stale():
            raise StaleError
        some = places[start : start + AT_ONCE]
        chances = (
            ask(known.raw[some]) if ask else suggest.softmax(known.texts.logits(known.raw[some], names)[0])
        )
        for whole, part in zip(tops, suggest.tops(chances), strict=True):
            whole[some] = part
    return {"names": names, "problems": said, "tops": tops, "by": by, "why": why}


def _proposed(known: Known, stale: Stale) -> dict[str, Any]:
    places, rows = known.unit()
    unsure = known.found.tops.unsure if known.found.by else None
    if unsure is not None and len(unsure) > places.max(initial=-1):
        unsure = np.maximum(unsure[places], 0)
    else:
        unsure = None
    chosen = suggest.next_ones(rows, unsure, known.labels[places] >= 0)
    return {"proposed": places[chosen]}


def _suspicious(known: Known, stale: Stale) -> dict[str, Any]:
    names = tuple(each for each in known.names if each.name not in known.texts.of(known.names)[1])
    place = {each.name: index for index, each in enumerate(names)}
    moved = np.array([*(place.get(each.name, -1) for each in known.names), -1], int)
    labels = moved[known.labels]
    places, rows = known.unit()
    mask = labels[places] >= 0
    places, rows = places[mask], rows[mask]
    zero = known.texts.logits(rows, names)[0]
    values = suggest.suspicion(rows, labels[places], zero)
    order = np.argsort(-values, kind="stable")
    return {"suspicious": places[order[values[order] > 0]]}


def _grouped(known: Known, stale: Stale) -> dict[str, Any]:
    places, rows = known.unit()
    group, centres = suggest.groups(rows)
    whole = np.full(len(known.there), -1, np.int32)
    whole[places] = group
    members = suggest.typical(rows, group, centres, TYPICAL)
    return {"group": whole, "members": tuple(places[each] for each in members)}


def _labels_key(known: Known) -> tuple[object, ...]:
    return (known.names, known.labels.tobytes(), known.amount(1.0))


# by name: what each depends on, and what makes it
STAGES: Mapping[str, tuple[Callable[[Known], object], Callable[[Known, Stale], dict[str, Any]]]] = {
    "suggested": (lambda known: (known.names, known.amount(GROWTH), known.learned), _suggested),
    "grouped": (lambda known: known.amount(1.0), _grouped),
    "proposed": (lambda known: (_labels_key(known), known.learned), _proposed),
    "suspicious": (_labels_key, _suspicious),
}
AFTER_LABELS = ("proposed", "suspicious")
