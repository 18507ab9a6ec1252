"""Cells to records: train what is missing, test it, write it down. Finished cells are never run again."""

import importlib.metadata
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor

from cocoop.backbone import Backbone
from cocoop.cells import Cell, Training
from cocoop.data import Dataset, Item, open_dataset
from cocoop.data.splits import draw, select, subset_labels
from cocoop.evaluate import evaluate
from cocoop.features import FeatureCache, ImageEncoder
from cocoop.files import digest
from cocoop.fit import Trace, fit
from cocoop.logits import Classifier
from cocoop.methods import Method
from cocoop.model import PromptCard, build_method, load_prompt, save_prompt
from cocoop.recipe import Recipe
from cocoop.settings import from_dict
from cocoop.store import Record, Store

TOP = 5  # predictions kept of every test image

Notify = Callable[[Cell, str, float], None]  # cell, what is going on, share of it done


def run(
    cells: Sequence[Cell],
    store: Store,
    backbone: Backbone,
    cache: FeatureCache | None = None,
    memory_budget: int | None = None,
    notify: Notify = lambda cell, doing, share: None,
    root: str | Path | None = None,
) -> int:
    """Bring every cell to a record and return how many had to be run.

    Cells of one training share its prompt, which is kept in the store too. `root` is where the datasets
    are, as for `open_dataset`.

    Raises:
        CocoopError: a cell failed; those finished before it stay finished.
    """
    runner = _Runner(store, backbone, ImageEncoder(backbone, cache), memory_budget, notify, root)
    done = 0
    for cell in cells:
        if not store.has(cell):
            runner.run(cell)
            done += 1
        notify(cell, "done", 1.0)
    return done


class _Runner:
    def __init__(
        self,
        store: Store,
        backbone: Backbone,
        images: ImageEncoder,
        memory_budget: int | None,
        notify: Notify,
        root: str | Path | None,
    ) -> None:
        self._store = store
        self._backbone = backbone
        self._images = images
        self._budget = memory_budget
        self._notify = notify
        self._root = root
        self._environment = environment()

    def run(self, cell: Cell) -> None:
        trained_on, method, card = self._prompt(cell)
        dataset = open_dataset(cell.testing.dataset, self._root)
        labels = subset_labels(_labels(dataset.items("train")), cell.testing.subset)
        items = select(dataset.items(cell.testing.split), labels)
        names = [dataset.class_names[label] for label in labels]
        self._notify(cell, "testing", 0.0)
        zimg = replace(self._images, decode=dataset.decode).test(dataset.root, items)
        logits = Classifier(self._backbone, method, names, self._budget).predict(zimg)
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
            lr=card.lr,
            loss=_mean_by_epoch(card.loss, len(card.lr)),
            seconds_per_step=card.seconds / steps if steps else 0.0,
            peak_memory_mb=peak_memory_mb(),
            files=digest(*(repr(tuple(item)) for item in (*trained_on, *items))),
            environment=self._environment,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        self._store.write(record, _top(logits))

    def _prompt(self, cell: Cell) -> tuple[tuple[Item, ...], Method, PromptCard]:
        """Return the training items, the trained method and its card, from the store where it is there."""
        training = cell.training
        dataset = open_dataset(training.dataset if training.recipe else cell.testing.dataset, self._root)
        path = self._store.prompt_path(training)
        items, names = _training_items(dataset, training)
        if path.exists():
            return (items, *load_prompt(path, self._backbone))
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
        method = build_method(card, self._backbone)
        if training.recipe:
            trace = self._fit(cell, dataset, items, method, names)
            card = card.model_copy(update={"lr": trace.lr, "loss": trace.loss, "seconds": trace.seconds})
            save_prompt(path, method, card)
        return items, method, card

    def _fit(
        self, cell: Cell, dataset: Dataset, items: Sequence[Item], method: Method, names: Sequence[str]
    ) -> Trace:
        training = cell.training
        recipe: Recipe = from_dict(Recipe, training.recipe or {})
        images = replace(self._images, decode=dataset.decode)

        def views(epoch: int) -> Tensor:
            return images.train(dataset.root, items, epoch, training.seed)

        return fit(
            Classifier(self._backbone, method, names, self._budget),
            views,
            torch.tensor([item.label for item in items]),
            recipe,
            training.seed,
            lambda epoch, loss: self._notify(cell, f"loss {loss:.3f}", (epoch + 1) / recipe.epochs),
        )


def _training_items(dataset: Dataset, training: Training) -> tuple[tuple[Item, ...], list[str]]:
    """Draw the shots over all classes, then cut the subset, as the published protocol does."""
    labels = subset_labels(_labels(dataset.items("train")), training.subset)
    names = [dataset.class_names[label] for label in labels]
    if not training.recipe:
        return (), names
    return select(draw(dataset.splits, training.shots, training.seed)["train"], labels), names


def _labels(items: Sequence[Item]) -> list[int]:
    return [item.label for item in items]


def _top(logits: Tensor) -> dict[str, Tensor]:
    probabilities, classes = torch.softmax(logits, dim=1).topk(min(TOP, logits.shape[1]))
    return {"classes": classes.to(torch.int32), "probabilities": probabilities}


def _mean_by_epoch(losses: Sequence[float], epochs: int) -> list[float]:
    size = len(losses) // epochs if epochs else 0
    return (
        [sum(losses[start : start + size]) / size for start in range(0, size * epochs, size)] if size else []
    )


def environment() -> dict[str, str]:
    """Versions, commit and machine, for records."""
    packages = ("cocoop", "torch", "torchvision", "open_clip_torch", "numpy", "pillow")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return versions | {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, threads: {torch.get_num_threads()}",
        "commit": _commit(),
    }


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
