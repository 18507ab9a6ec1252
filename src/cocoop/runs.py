"""Cells to records: train what is missing, test it, write it down. Finished cells are never run again."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from cocoop.backbone import Backbone, load_backbone
from cocoop.cells import Cell, Training
from cocoop.data import Dataset, Item, open_dataset
from cocoop.data.splits import draw, select, subset_labels
from cocoop.environment import environment, peak_memory_mb
from cocoop.evaluate import evaluate
from cocoop.features import FeatureCache, ImageEncoder
from cocoop.files import digest
from cocoop.fit import Epoch, fit, others
from cocoop.ledger import Notify
from cocoop.logits import Classifier
from cocoop.methods import Method
from cocoop.model import PromptCard, build_method, load_prompt, save_prompt
from cocoop.precision import Precision
from cocoop.recipe import Recipe
from cocoop.settings import from_dict
from cocoop.snapshot import Trace
from cocoop.store import Record, Store

TOP = 5  # predictions kept of every test image
WAIT = 0.5  # seconds until a training that another process is at is looked at again


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
    """

    folder: Path
    cache: Path
    backbone: str
    device: str = "cpu"
    precision: Precision = "fp32"
    memory_budget: int | None = None
    threads: int | None = None
    root: str | Path | None = None


def run(
    cells: Sequence[Cell],
    setup: Setup,
    notify: Notify = lambda cell, doing, share: None,
    backbone: Backbone | None = None,
) -> None:
    """Bring every cell to a record or to a failure in the ledger; the others go on when one fails.

    Cells of one training share its prompt, which is kept in the store too. They are claimed together, so
    any number of processes may run the same cells. What another one is at is waited for, and taken over
    if that process ends without finishing it.

    Args:
        cells: those that are finished, or failed before, are passed over.
        setup: how to run them.
        notify: told what is going on.
        backbone: the setup's, where it is already loaded.

    Raises:
        OSError: the folder cannot be written.
    """
    if setup.threads:
        torch.set_num_threads(setup.threads)
    runner = _Runner.of(
        setup, notify, backbone or load_backbone(setup.backbone, setup.device, setup.precision)
    )
    jobs = by_training(cell for cell in cells if not runner.store.settled(cell))
    while jobs:
        taken = []
        for job in jobs:
            with runner.store.ledger.claim(job[0].training) as note:
                if note is None:
                    taken.append(job)
                    continue
                runner.noting(note).job(job)
            for cell in job:
                notify(cell, "done", 1.0)
        if len(taken) == len(jobs):
            notify(taken[0][0], "another process is at it", 0.0)
            time.sleep(WAIT)
        jobs = taken


def by_training(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Group cells that share a prompt: the pieces that work is handed out in."""
    jobs: dict[str, list[Cell]] = {}
    for cell in cells:
        jobs.setdefault(cell.training.key, []).append(cell)
    return list(jobs.values())


@dataclass(frozen=True)
class _Runner:
    store: Store
    backbone: Backbone
    images: ImageEncoder
    budget: int | None
    open: Callable[[str], Dataset]
    notify: Notify
    environment: dict[str, str]

    @classmethod
    def of(cls, setup: Setup, notify: Notify, backbone: Backbone) -> "_Runner":
        images = ImageEncoder(backbone, FeatureCache(setup.cache))
        opened = lru_cache(maxsize=2)(partial(open_dataset, root=setup.root))  # ImageNet's lists take seconds
        return cls(Store(setup.folder), backbone, images, setup.memory_budget, opened, notify, environment())

    def noting(self, note: Notify) -> "_Runner":
        """Tell whoever watches the folder too."""

        def both(cell: Cell, doing: str, share: float) -> None:
            self.notify(cell, doing, share)
            note(cell, doing, share)

        return replace(self, notify=both)

    def job(self, cells: Sequence[Cell]) -> None:
        """Run the cells of one training; where that fails, they all do."""
        for cell in cells:
            if self.store.settled(cell):
                continue
            try:
                self.run(cell)
            except Exception as error:  # whatever it is, the other cells go on
                untrained = cell.training.recipe and not self.store.prompt_path(cell.training).exists()
                for failed in cells if untrained else [cell]:
                    self.store.ledger.fail(failed, error)

    def run(self, cell: Cell) -> None:
        trained_on, method, card = self._prompt(cell)
        dataset = self.open(cell.testing.dataset)
        items, names = cell.testing.choose(dataset)
        self.notify(cell, "testing", 0.0)
        zimg = replace(self.images, decode=dataset.decode).test(dataset.root, items)
        logits = Classifier(self.backbone, method, names, self.budget).predict(zimg, _seen(zimg, cell))
        truth = torch.tensor([item.label for item in items])
        values = dict(evaluate(logits, truth))
        steps = len(card.loss)
        record = Record(
            cell=cell,
            correct=int(values.pop("correct")),
            total=int(values.pop("total")),
            metrics=values,
            class_names=names,
            train_images=len(trained_on),
            parameters=sum(parameter.numel() for parameter in method.parameters()),
            lr=card.lr,
            loss=_mean_by_epoch(card.loss, len(card.lr)),
            seconds_per_step=card.seconds / steps if steps else 0.0,
            peak_memory_mb=peak_memory_mb(),
            files=digest(*(repr(tuple(item)) for item in (*trained_on, *items))),
            environment=self.environment,
            note=self.open(cell.training.dataset).note if cell.training.recipe else "",
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        self.store.write(record, _top(logits) | {"labels": truth.to(torch.int32)})

    def _prompt(self, cell: Cell) -> tuple[tuple[Item, ...], Method, PromptCard]:
        """Return the training items, the trained method and its card, from the store where it is there."""
        training = cell.training
        dataset = self.open(training.dataset if training.recipe else cell.testing.dataset)
        path = self.store.prompt_path(training)
        items, names = _training_items(dataset, training)
        if path.exists():
            return (items, *load_prompt(path, self.backbone))
        card = PromptCard(
            method=training.method,
            config=training.config,
            backbone=training.backbone,
            weights=training.weights,
            template=dataset.template,
            class_names=names,
            seed=training.seed,
            notes={"training": training.model_dump()},
        )
        method = build_method(card, self.backbone)
        if training.recipe:
            trace = self._fit(cell, dataset, items, method, names)
            card = card.model_copy(update={"lr": trace.lr, "loss": trace.loss, "seconds": trace.seconds})
            save_prompt(path, method, card)
            self.store.checkpoint(training).delete()
        return items, method, card

    def _fit(
        self, cell: Cell, dataset: Dataset, items: Sequence[Item], method: Method, names: Sequence[str]
    ) -> Trace:
        training = cell.training
        recipe: Recipe = from_dict(Recipe, training.recipe or {})
        checkpoint = self.store.checkpoint(training)
        images = replace(self.images, decode=dataset.decode)

        def views(epoch: int) -> Tensor:
            return images.train(dataset.root, items, epoch, training.seed)

        def on_epoch(epoch: Epoch) -> None:
            checkpoint.save(epoch.snapshot)
            self.notify(cell, f"loss {epoch.loss:.3f}", epoch.done / epoch.total)

        return fit(
            Classifier(self.backbone, method, names, self.budget),
            views,
            torch.tensor([item.label for item in items]),
            recipe,
            training.seed,
            on_epoch,
            checkpoint.load(),
        )


def _training_items(dataset: Dataset, training: Training) -> tuple[tuple[Item, ...], list[str]]:
    """Draw the shots over all classes, then cut the subset, as the published protocol does."""
    labels = subset_labels(range(len(dataset.class_names)), training.subset)
    names = [dataset.class_names[label] for label in labels]
    if not training.recipe:
        return (), names
    return select(draw(dataset.splits, training.shots, training.seed)["train"], labels), names


def _seen(zimg: Tensor, cell: Cell) -> Tensor:
    """Return what the prompts of the test images are made from: the images themselves, but in an ablation."""
    recipe = cell.training.recipe or {}
    return others(zimg, cell.training.seed, recipe["epochs"]) if recipe.get("shuffled") else zimg


def _top(logits: Tensor) -> dict[str, Tensor]:
    probabilities, classes = torch.softmax(logits, dim=1).topk(min(TOP, logits.shape[1]))
    return {"classes": classes.to(torch.int32), "probabilities": probabilities}


def _mean_by_epoch(losses: Sequence[float], epochs: int) -> list[float]:
    size = len(losses) // epochs if epochs else 0
    return (
        [sum(losses[start : start + size]) / size for start in range(0, size * epochs, size)] if size else []
    )
