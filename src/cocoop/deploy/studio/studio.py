"""The studio behind its page: a folder, a backbone, what is found out of them, a model; under one lock."""

import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cocoop.deploy.serve.limits import Refused
from cocoop.deploy.studio.asked import Asked
from cocoop.deploy.studio.background import Background, Known
from cocoop.deploy.studio.folder import Folder
from cocoop.deploy.studio.learned import Learned, Score
from cocoop.deploy.studio.listing import Found, Images
from cocoop.deploy.studio.loading import Loading, Options
from cocoop.deploy.studio.pictures import Pictures
from cocoop.deploy.studio.save import Saved, Saves, What
from cocoop.errors import in_words
from cocoop.methods import METHODS
from cocoop.utils.display import reason

if TYPE_CHECKING:  # the page is there before torch is loaded
    from cocoop.deploy.studio.features import Features
    from cocoop.deploy.studio.texts import NameTexts
    from cocoop.deploy.studio.training import Training


class Studio:
    """One folder that is worked on.

    Args:
        folder: of images.
        options: how it is opened.

    Attributes:
        version: goes up with everything that lists show.
        pictures: of the images.
        features: of the images; None until the backbone is loaded.
        loading: of the backbone.
        saves: what is taken away.
        found: what was found out so far.
        learned: the model; None without one.
        training: the last training; None before the first.
    """

    def __init__(self, folder: Folder, options: Options) -> None:
        self.folder = folder
        self.options = options
        self.lock = threading.RLock()
        self.version = 1
        self.pictures = Pictures(folder.root)
        self.features: "Features | None" = None
        self.texts: "NameTexts | None" = None
        self.found = Found()
        self.learned: Learned | None = None
        self.training: "Training | None" = None
        self.loading = Loading(folder.root, options)
        self.saves = Saves(options.out)
        self._trained_on = (folder.names, folder.labels)
        self._held: frozenset[int] = frozenset()
        self.taking = threading.Lock()  # held by whoever writes images into the folder
        self._stopped = False
        self._loader = threading.Thread(target=self._load, name="backbone", daemon=True)
        self._background = Background(self._known, self._publish, self._failed)

    def start(self) -> None:
        """Load the backbone, and find out what there is, in the background."""
        METHODS.names()  # looked through before several threads ask
        self._loader.start()
        # what groups are made with takes a second to import, which can be meanwhile
        threading.Thread(target=importlib.import_module, args=["sklearn.cluster"], daemon=True).start()

    def stop(self) -> None:
        """End everything that runs, but for the loading; what was found out is kept for the next time."""
        if self.training:
            self.training.cancel()
        with self.lock:
            self._stopped = True
            features = self.features
        if features:
            self._background.stop()
            features.stop()

    @property
    def waiting(self) -> bool:
        """Whether the backbone is still being loaded."""
        return self.features is None and not self.loading.error

    @property
    def busy(self) -> bool:
        """Whether anything runs in the background."""
        running = self.training is not None and self.training.progress.state == "running"
        finding = self.features is not None and (self.features.busy or self._background.busy)
        return self.waiting or running or finding

    def change(self, change: Callable[[Folder], None]) -> list[int]:
        """Change names or labels; return the places of images whose label is another now.

        Raises:
            CocoopError: as the folder does.
        """
        with self.lock:
            before = self.folder.texts()
            change(self.folder)
            changed: list[int] = np.flatnonzero(before != self.folder.texts()).tolist()
            self.version += 1
            self._background.notify(labels=True)
        return changed

    def add(self, paths: Sequence[Path]) -> list[str]:
        """Take in image files that lie in the folder now; return their ids."""
        with self.lock:
            before = len(self.folder.ids)
            ids = [self.folder.add(path) for path in paths]
            fresh = self.folder.ids[before:]
            if self.features and fresh:
                self.features.add(fresh, self.folder.paths[before:])
                self.loading.look(self.features.backbone, self.folder.paths)
            self.version += 1
            self._background.notify()
        return ids

    def images(self) -> Images:
        """Return everything that lists are made of."""
        with self.lock:
            words, labels = tuple(self.folder.words()), self.folder.labels
            unreadable = tuple(self.features.problems) if self.features else ()
            images = Images(words, labels, self.found, unreadable)
            if (model := self.learned) is None:
                return images
            return replace(
                images,
                learned_from=model.train,
                held=model.held,
                truth=model.truth(words, labels),
                answers=model.answers,
                classes=model.classes,
            )

    @property
    def held(self) -> frozenset[int]:
        """The places of the model's held-out images."""
        return self._held

    def scores(self) -> tuple[Score, Score]:
        """Return how good the model and zero-shot CLIP are on held-out images, by their labels now."""
        images, model = self.images(), self.learned
        assert model is not None
        known = images.truth >= 0
        right, zero = ((each == images.truth)[known].sum() for each in (model.answers, model.zero_shot))
        return Score(int(right), int(known.sum())), Score(int(zero), int(known.sum()))

    def stale(self) -> bool:
        """Whether labels or names have changed since the model was trained."""
        names, labels = self._trained_on
        return names != self.folder.names or not np.array_equal(labels, self.folder.labels)

    def can_train(self) -> str:
        """Return why nothing can be trained yet, or ""."""
        if self.loading.error:
            return self.loading.error
        if self.features is None:
            return "the backbone is still being loaded"
        if len(np.unique(self.folder.labels[self.folder.labels >= 0])) < 2:
            return "label images of two names at least"
        return ""

    def train(self, asked: Asked) -> None:
        """Begin to train.

        Raises:
            Refused: that is not possible now.
            CocoopError: settings or names that are impossible.
        """
        from cocoop.deploy.studio.training import Training, split

        with self.lock:
            if self.training and self.training.progress.state == "running":
                raise Refused(409, "a training runs already; cancel it first")
            if why := self.can_train():
                raise Refused(409, why)
            assert self.features
            assert self.texts
            folder = self.folder
            parts = split(folder.paths, folder.words(), folder.labels, str(folder.root))
            stamp = (folder.names, folder.labels)

            def done(learned: Learned) -> None:
                with self.lock:
                    self.learned, self._trained_on = learned, stamp
                    self._held = frozenset(learned.held.tolist())
                    self.version += 1
                    self._background.notify()

            self.training = Training(
                asked,
                self.features,
                self.texts,
                self.options.template,
                folder.names,
                folder.labels,
                parts,
                done,
                self._background.notify,
            )
            self.training.start()

    def cancel(self) -> None:
        """Cancel the training, if one runs."""
        if self.training:
            self.training.cancel()

    def save(self, what: What, overwrite: bool) -> Saved:
        """Save something; raises as `Saves.save` does."""
        with self.lock:
            learned, scores = self.learned, self.scores() if self.learned else None
        return self.saves.save(what, overwrite, self.folder, self.lock, learned, scores)

    def _load(self) -> None:
        clip = self.loading.load(list(self.folder.paths))
        if clip is None:
            return
        from cocoop.deploy.studio.features import Features
        from cocoop.deploy.studio.texts import NameTexts

        features = Features(clip, self.folder.root, self._encoded)
        texts = NameTexts(clip, self.options.template, self.options.memory_budget)
        with self.lock:
            if self._stopped:
                return
            features.add(self.folder.ids, self.folder.paths)
            self.features, self.texts = features, texts
            self.loading.look(clip, self.folder.paths)
            self.version += 1
            features.start()
            self._background.start()

    def _encoded(self) -> None:
        with self.lock:
            self.version += 1
            self._background.notify()

    def _known(self) -> Known:
        with self.lock:
            features, texts = self.features, self.texts
            assert features
            assert texts
            there = features.known.copy()
            whole = not features.left or bool(features.error)
            names, labels = self.folder.names, self.folder.labels
            return Known(names, labels, features.raw, there, whole, self.learned, texts, self.found)

    def _publish(self, found: Mapping[str, Any]) -> None:
        with self.lock:
            self.found = replace(self.found, **found)
            self.version += 1

    def _failed(self, error: Exception) -> None:
        note = f"something could not be found out: {in_words(error) or reason(error)}"
        with self.lock:
            self.folder.notes += [note] * (note not in self.folder.notes)
