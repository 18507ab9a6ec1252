"""Training on what is labelled, in the background, and how good it is on labelled images it did not see."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Int

from cocoop.backbones.device import few_threads
from cocoop.data import Item
from cocoop.data.own.reading import Row
from cocoop.data.own.rows import hold_out, to_splits
from cocoop.deploy.studio.asked import Asked
from cocoop.deploy.studio.features import Features
from cocoop.deploy.studio.learned import Learned
from cocoop.deploy.studio.names import Name, called
from cocoop.deploy.studio.texts import NameTexts
from cocoop.errors import CocoopError, in_words
from cocoop.estimator import PromptClassifier
from cocoop.estimator.calibration import FEWEST
from cocoop.estimator.progress import every_step
from cocoop.methods._hooks import views_of
from cocoop.training.loop import Epoch
from cocoop.training.samples import shots_of
from cocoop.utils.display import reason

SELECTED_ON = 0.5  # share of the images to learn from that a method selects its settings on, if it does
POLL = 0.05  # seconds between two looks whether features are there


class CancelledError(Exception):
    """Raised in the training when a person cancels it."""


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        state: "running", "done", "cancelled" or "failed".
        method: its name.
        done: steps.
        total: of these; 0 where it is not known.
        loss: of the last epoch.
        started: by the clock of `time.monotonic`.
        seconds: that it took, once it is over.
        error: why it failed.
    """

    method: str
    state: str = "running"
    done: int = 0
    total: int = 0
    loss: float | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it for the page."""
        seconds = time.monotonic() - self.started if self.seconds is None else self.seconds
        running = self.state == "running" and self.done
        eta = seconds / self.done * (self.total - self.done) if running and self.total else None
        shown = {"state": self.state, "method": self.method, "done": self.done, "total": self.total}
        return shown | {"loss": self.loss, "seconds": seconds, "eta": eta, "error": self.error}


def split(
    paths: Sequence[str], words: Sequence[str], labels: Int[np.ndarray, " n"], source: str
) -> tuple[list[int], list[int]]:
    """Return the places of the images to learn from and of those held out, as `cocoop fit` would.

    Raises:
        CocoopError: fewer than two names have labelled images.
    """
    places = np.flatnonzero(labels >= 0).tolist()
    at = {paths[place]: place for place in places}
    parts = to_splits([Row(paths[place], words[labels[place]]) for place in places], source)
    return [at[item.path] for item in parts["train"]], [at[item.path] for item in parts["test"]]


class Training:
    """One training, in a thread of its own.

    Args:
        asked: the method and its settings.
        features: of the images.
        texts: of the names.
        template: the zero-shot prompt.
        names: with labelled images, in any order.
        labels: of the images, by place among `names`.
        parts: places of images to learn from and of those held out.
        done: called with what came of it; not where it failed or was cancelled.
        changed: called when it ends in any way.
    """

    def __init__(
        self,
        asked: Asked,
        features: Features,
        texts: NameTexts,
        template: str,
        names: Sequence[Name],
        labels: Int[np.ndarray, " n"],
        parts: tuple[Sequence[int], Sequence[int]],
        done: Callable[[Learned], None],
        changed: Callable[[], None],
    ) -> None:
        self.progress = Progress(asked.method)
        self._params = asked.params()
        self._features, self._texts, self._template = features, texts, template
        self._names, self._labels, self._parts = tuple(names), labels, parts
        self._done, self._changed = done, changed
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="training", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def cancel(self) -> None:
        """Stop at the next step."""
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is over."""
        self._thread.join(timeout)

    def _run(self) -> None:
        progress = self.progress
        try:
            learned = self._learn()
            self._check()
            self._done(learned)
            progress.state = "done"
        except CancelledError:
            progress.state = "cancelled"
        except Exception as error:
            progress.error = in_words(error) or reason(error)
            progress.state = "failed"
        progress.seconds = time.monotonic() - progress.started
        self._changed()

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError

    def _learn(self) -> Learned:
        train, held = self._there(self._parts[0]), self._there(self._parts[1])
        model = PromptClassifier(
            backbone=self._features.backbone,
            template=self._template,
            phrases=_phrases(self._names),
            **self._params,
        )
        learn, judge = self._selected_on(train)
        if model.choice.facts.selects_on == "nothing" or len(judge) < FEWEST:
            self._fit(model, train, [])
            return self._judged(model, train, held)
        self._fit(model, learn, judge)
        selected = model.info_.selected
        if selected and selected.keys() <= {field.name for field in fields(model.choice.config)}:
            model.set_params(settings={**(model.settings or {}), **selected})
            self._fit(model, train, [])  # with what was selected, from all images
        return self._judged(model, train, held)

    def _fit(self, model: PromptClassifier, learn: list[int], judge: list[int]) -> None:
        clip, recipe = self._features.backbone, model.choice.recipe
        shots = shots_of(self._words(learn))
        self.progress.done, self.progress.total = 0, recipe.all_steps(len(learn), shots) if recipe else 0
        with every_step(self._step), few_threads(clip.device, clip.width):
            model.fit_features(
                lambda epoch: self._features.of(learn),
                self._words(learn),
                self._epoch,
                validation=lambda: (self._features.of(judge), self._words(judge)),
                plain=lambda: self._features.of(learn),
            )
        self._check()

    def _judged(self, model: PromptClassifier, train: list[int], held: list[int]) -> Learned:
        by_word = {each.name: each for each in self._names}
        names = tuple(by_word[word] for word in model.classes_.tolist())
        held = [place for place, word in zip(held, self._words(held), strict=True) if word in model.classes_]
        fimg = self._features.of(held)
        if len(held) >= FEWEST and views_of(model.method_).count == 1:
            model.calibrate_features(fimg, self._words(held))
        zero, _ = self._texts.logits(fimg.numpy(), names)
        answers = [each.argmax(1) for each in (model.logits(fimg).numpy(), zero)]
        return Learned(model, names, np.array(train, int), np.array(held, int), *answers)

    def _there(self, places: Sequence[int]) -> list[int]:
        """Wait for the features of images; return those that can be read."""
        self._features.first(places)
        features = self._features
        while any(not features.known[place] and place not in features.problems for place in places):
            self._check()
            if features.error:
                raise CocoopError(features.error)
            time.sleep(POLL)
        return [place for place in places if features.known[place]]

    def _selected_on(self, places: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return images to learn from, and some of every name to select settings on."""
        items = [Item(str(place), int(self._labels[place]), "") for place in places]
        learn, judge = hold_out(items, SELECTED_ON, random.Random(0))
        return [int(item.path) for item in learn], [int(item.path) for item in judge]

    def _words(self, places: Sequence[int]) -> list[str]:
        return [self._names[self._labels[place]].name for place in places]

    def _step(self) -> None:
        if threading.current_thread() is self._thread:
            self._check()
            self.progress.done += 1

    def _epoch(self, epoch: Epoch) -> None:
        self._check()
        self.progress.loss = epoch.loss


def _phrases(names: Sequence[Name]) -> dict[str, tuple[str, ...]]:
    return dict(called([each for each in names if each.phrases]))
