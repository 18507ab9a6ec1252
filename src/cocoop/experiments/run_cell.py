"""One cell to one record: train the prompt where it is missing, test it, write it down."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.backbones.device import Precision
from cocoop.backbones.features import FeatureCache, ImageEncoder
from cocoop.data import Dataset, Item, open_dataset
from cocoop.data.splits import draw, select, subset_labels
from cocoop.errors import CocoopError
from cocoop.experiments.cell import Cell
from cocoop.experiments.claims import Notify
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.experiments.tracking import NONE, tracked
from cocoop.methods import Method
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import from_dict
from cocoop.training.checkpoint import Snapshot
from cocoop.training.classifier import Classifier
from cocoop.training.distributed import Group
from cocoop.training.loop import Epoch, OnEpoch, train
from cocoop.training.metrics import evaluate
from cocoop.training.prompt_file import PromptCard, save_prompt
from cocoop.utils.environment import environment, peak_memory_mb
from cocoop.utils.files import digest

TOP = 5  # predictions kept of every test image


@dataclass(frozen=True)
class Setup:
    """How to run cells, in plain values, so that other processes can be told.

    Attributes:
        folder: the run folder.
        cache: the folder of the image features.
        backbone: name for `load_backbone`.
        device: where to compute, settled.
        precision: of the frozen towers, settled.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        threads: of torch on the CPU; None for as many as it takes.
        root: where the datasets are, as for `open_dataset`.
        tracker: of the curves, settled.
    """

    folder: Path
    cache: Path
    backbone: str
    device: str = "cpu"
    precision: Precision = "fp32"
    memory_budget: int | None = None
    threads: int | None = None
    root: str | Path | None = None
    tracker: str = NONE


@dataclass(frozen=True)
class Runner:
    """What it takes to bring cells to records, in one process.

    Attributes:
        store: where records and prompts go.
        backbone: the frozen CLIP.
        images: encodes images, through the cache.
        budget: bytes for the text encoder; None for what the machine allows.
        open: opens a dataset by name.
        notify: told what is going on.
        environment: for the records.
        tracker: of the curves.
        group: the processes that share each fit.
    """

    store: Store
    backbone: Backbone
    images: ImageEncoder
    budget: int | None
    open: Callable[[str], Dataset]
    notify: Notify
    environment: dict[str, str]
    tracker: str
    group: Group

    @classmethod
    def of(cls, setup: Setup, notify: Notify, backbone: Backbone | None, group: Group) -> "Runner":
        """Make ready what the setup describes; the backbone may be loaded already."""
        if setup.threads:
            torch.set_num_threads(setup.threads)
        backbone = backbone or load_backbone(setup.backbone, setup.device, setup.precision)
        images = ImageEncoder(backbone, FeatureCache(setup.cache))
        opened = lru_cache(maxsize=2)(partial(open_dataset, root=setup.root))  # ImageNet's lists take seconds
        store, budget = Store(setup.folder), setup.memory_budget
        return cls(store, backbone, images, budget, opened, notify, environment(), setup.tracker, group)

    def noting(self, note: Notify) -> "Runner":
        """Tell whoever watches the folder too."""

        def both(cell: Cell, doing: str, share: float) -> None:
            self.notify(cell, doing, share)
            note(cell, doing, share)

        return replace(self, notify=both)

    def run(self, cell: Cell) -> None:
        """Bring one cell to its record, and its training to a prompt.

        Raises:
            CocoopError: the training diverged, or an image or a file cannot be read.
        """
        method, card, images = self._trained(cell)
        dataset = self.open(cell.testing.dataset)
        items, names = cell.testing.choose(dataset)
        self.notify(cell, "testing", 0.0)
        zimg = replace(self.images, decode=dataset.decode).test(dataset.root, items)
        logits = Classifier(self.backbone, method, names, self.budget).predict(zimg)
        truth = torch.tensor([item.label for item in items])
        values = dict(evaluate(logits, truth))
        record = Record(
            cell=cell,
            correct=int(values.pop("correct")),
            total=int(values.pop("total")),
            metrics=values,
            class_names=names,
            train_images=len(images),
            parameters=sum(parameter.numel() for parameter in method.parameters()),
            lr=card.lr,
            loss=card.log.epoch_losses,
            seconds_per_step=card.log.seconds_per_step,
            peak_memory_mb=peak_memory_mb(),
            files=digest(*(repr(tuple(item)) for item in (*images, *items))),
            environment=self.environment,
            note=self.open(cell.training.dataset).note if cell.training.shots else "",
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        self.store.write(record, _top(logits) | {"labels": truth.to(torch.int32)})

    def take_part(self, cell: Cell, resume: Snapshot | None) -> None:
        """Do this process's share of a fit that the first process of the group has begun."""
        with suppress(CocoopError):  # the first process meets it too, and writes it down
            self._train(cell, resume, lambda epoch: None)

    def _trained(self, cell: Cell) -> tuple[Method, PromptCard, tuple[Item, ...]]:
        """Return the trained method, its card and its images, from the store where it is there."""
        training = cell.training
        path, checkpoint = self.store.prompt_path(training), self.store.checkpoint(training)
        if path.exists():
            checkpoint.delete()  # a process may have been killed before it could
            return (*self.store.prompt(training, self.backbone), self._data(cell)[1])
        if not training.learns:
            return self._train(cell, None, lambda epoch: None)
        resume = checkpoint.load()
        with tracked(self.tracker, self.store.folder / "tracking", training) as track:

            def on_epoch(epoch: Epoch) -> None:
                checkpoint.save(epoch.snapshot)
                self.notify(cell, f"loss {epoch.loss:.3f}", epoch.done / epoch.total)
                track(epoch)

            self.group.call((cell, resume))
            method, card, images = self._train(cell, resume, on_epoch)
        save_prompt(path, method, card)
        checkpoint.delete()
        return method, card, images

    def _train(
        self, cell: Cell, resume: Snapshot | None, on_epoch: OnEpoch
    ) -> tuple[Method, PromptCard, tuple[Item, ...]]:
        training = cell.training
        dataset, items, names = self._data(cell)
        images = replace(self.images, decode=dataset.decode)
        method, card = train(
            PromptCard(
                method=training.method,
                config=training.config,
                backbone=training.backbone,
                weights=training.weights,
                template=dataset.template,
                class_names=names,
                seed=training.seed,
                notes={"training": training.model_dump()},
            ),
            from_dict(Recipe, training.recipe) if training.recipe else None,
            self.backbone,
            lambda epoch: images.train(dataset.root, items, epoch, training.seed),
            torch.tensor([item.label for item in items], dtype=torch.long),
            memory_budget=self.budget,
            on_epoch=on_epoch,
            resume=resume,
            group=self.group,
        )
        return method, card, items

    def _data(self, cell: Cell) -> tuple[Dataset, tuple[Item, ...], list[str]]:
        """Return the dataset, the images and the class names of a training.

        Shots are drawn over all classes, then the subset is cut, as in the published protocol.
        """
        training = cell.training
        dataset = self.open(training.dataset if training.shots else cell.testing.dataset)
        labels = subset_labels(range(len(dataset.class_names)), training.subset)
        names = [dataset.class_names[label] for label in labels]
        if not training.shots:
            return dataset, (), names
        return dataset, select(draw(dataset.splits, training.shots, training.seed)["train"], labels), names


def _top(logits: Tensor) -> dict[str, Tensor]:
    probabilities, classes = torch.softmax(logits, dim=1).topk(min(TOP, logits.shape[1]))
    return {"classes": classes.to(torch.int32), "probabilities": probabilities}
