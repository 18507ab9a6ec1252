"""One cell to one record: train the prompt where it is missing, test it, write it down."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.backbones.device import Precision
from cocoop.backbones.features import ImageEncoder
from cocoop.data import Dataset, Item, open_dataset
from cocoop.data.splits import draw, select, subset_labels
from cocoop.errors import CocoopError
from cocoop.experiments.cell import Cell, Training
from cocoop.experiments.claims import Notify
from cocoop.experiments.store import Record, Store
from cocoop.experiments.tracking import NONE, tracked
from cocoop.methods import Method
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import from_dict
from cocoop.training.checkpoint import Snapshot, Trace
from cocoop.training.classifier import Classifier
from cocoop.training.distributed import Team
from cocoop.training.loop import Epoch, fit, others
from cocoop.training.metrics import evaluate
from cocoop.training.prompt_file import PromptCard, build_method, save_prompt
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
        team: the processes that share each fit.
    """

    store: Store
    backbone: Backbone
    images: ImageEncoder
    budget: int | None
    open: Callable[[str], Dataset]
    notify: Notify
    environment: dict[str, str]
    tracker: str
    team: Team

    @classmethod
    def of(cls, setup: Setup, notify: Notify, backbone: Backbone | None, team: Team) -> "Runner":
        """Make ready what the setup describes; the backbone may be loaded already."""
        if setup.threads:
            torch.set_num_threads(setup.threads)
        backbone = backbone or load_backbone(setup.backbone, setup.device, setup.precision)
        images = ImageEncoder(backbone, FeatureCache(setup.cache))
        opened = lru_cache(maxsize=2)(partial(open_dataset, root=setup.root))  # ImageNet's lists take seconds
        store, budget = Store(setup.folder), setup.memory_budget
        return cls(store, backbone, images, budget, opened, notify, environment(), setup.tracker, team)

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
            loss=Trace(card.lr, card.loss).epoch_losses,
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
        path, checkpoint = self.store.prompt_path(training), self.store.checkpoint(training)
        dataset, items, card = self._untrained(cell)
        if path.exists():
            checkpoint.delete()  # a process may have been killed before it could
            return (items, *self.store.prompt(training, self.backbone))
        method = build_method(card, self.backbone)
        if training.recipe:
            resume = checkpoint.load()
            with tracked(self.tracker, self.store.folder / "tracking", training) as track:

                def on_epoch(epoch: Epoch) -> None:
                    checkpoint.save(epoch.snapshot)
                    self.notify(cell, f"loss {epoch.loss:.3f}", epoch.done / epoch.total)
                    track(epoch)

                self.team.call((cell, resume))
                trace = self._fit(cell, dataset, items, method, card.class_names, on_epoch, resume)
            card = card.model_copy(update={"lr": trace.lr, "loss": trace.loss, "seconds": trace.seconds})
            save_prompt(path, method, card)
            checkpoint.delete()
        return items, method, card

    def take_part(self, cell: Cell, resume: Snapshot | None) -> None:
        """Do this process's share of a fit that the leader of the team has begun."""
        dataset, items, card = self._untrained(cell)
        method = build_method(card, self.backbone)
        with suppress(CocoopError):  # the leader meets it too, and writes it down
            self._fit(cell, dataset, items, method, card.class_names, lambda epoch: None, resume)

    def _untrained(self, cell: Cell) -> tuple[Dataset, tuple[Item, ...], PromptCard]:
        training = cell.training
        dataset = self.open(training.dataset if training.recipe else cell.testing.dataset)
        items, names = _training_items(dataset, training)
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
        return dataset, items, card

    def _fit(
        self,
        cell: Cell,
        dataset: Dataset,
        items: Sequence[Item],
        method: Method,
        names: Sequence[str],
        on_epoch: Callable[[Epoch], None],
        resume: Snapshot | None,
    ) -> Trace:
        training = cell.training
        recipe: Recipe = from_dict(Recipe, training.recipe or {})
        images = replace(self.images, decode=dataset.decode)

        def views(epoch: int) -> Tensor:
            return images.train(dataset.root, items, epoch, training.seed)

        return fit(
            Classifier(self.backbone, method, names, self.budget),
            views,
            torch.tensor([item.label for item in items]),
            recipe,
            training.seed,
            on_epoch,
            resume,
            self.team,
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
