"""One cell to one record: train the prompt where it is missing, test it, write it down."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import lru_cache, partial
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from cocoop.backbones.cache import FeatureCache
from cocoop.backbones.clip import Backbone, load_backbone
from cocoop.backbones.device import Precision, few_threads
from cocoop.backbones.features import ImageEncoder
from cocoop.data import Dataset, Item, open_dataset
from cocoop.data.live import Live
from cocoop.data.splits import draw, select, subset_labels, validation_shots
from cocoop.errors import CocoopError
from cocoop.experiments.cell import Cell, Training
from cocoop.experiments.claims import Notify
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.experiments.tracking import NONE, tracked
from cocoop.methods import Method, facts_of
from cocoop.methods._facts import Selection
from cocoop.methods._hooks import cut_of
from cocoop.methods._recipe import Recipe, training_views
from cocoop.methods._settings import from_dict
from cocoop.training.checkpoint import Snapshot
from cocoop.training.classifier import Classifier
from cocoop.training.distributed import SINGLE, Group
from cocoop.training.image import looks
from cocoop.training.loop import Epoch, OnEpoch, train
from cocoop.training.metrics import evaluate
from cocoop.training.prompt_file import PromptCard, build_method, save_prompt
from cocoop.training.samples import Samples, Validation
from cocoop.training.screening import approximation, predictor
from cocoop.training.test_time import in_turn, order_of, plain_views
from cocoop.utils.environment import environment, peak_memory_mb
from cocoop.utils.files import digest

TOP = 5  # predictions kept of every test image


@dataclass(frozen=True)
class Setup:
    """How to run cells, in plain values that other processes can be given.

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


class Runner:
    """Brings cells to records, in one process.

    Args:
        setup: how to run them.
        backbone: the setup's, where it is loaded already.
        group: the processes that share each fit.

    Attributes:
        store: where records and prompts go.
        group: as given.
    """

    def __init__(self, setup: Setup, backbone: Backbone | None = None, group: Group = SINGLE) -> None:
        if setup.threads:
            torch.set_num_threads(setup.threads)
        self.store = Store(setup.folder)
        self.group = group
        self._budget = setup.memory_budget
        self._tracker = setup.tracker
        self._backbone = backbone or load_backbone(setup.backbone, setup.device, setup.precision)
        self._images = ImageEncoder(self._backbone, FeatureCache(setup.cache))
        self._open = lru_cache(maxsize=2)(
            partial(open_dataset, root=setup.root)
        )  # ImageNet's lists take seconds
        self._environment = environment()

    def run(self, cell: Cell, notify: Notify) -> None:
        """Bring one cell to its record, and its training to a prompt.

        Args:
            cell: without a record.
            notify: called with what is going on.

        Raises:
            CocoopError: the training diverged, or an image or a file cannot be read.
        """
        with few_threads(self._backbone.device, self._backbone.width):
            self._run(cell, notify)

    def _run(self, cell: Cell, notify: Notify) -> None:
        method, card, images = self._trained(cell, notify)
        dataset = self._open(cell.testing.dataset)
        items, names = cell.testing.choose(dataset)
        notify(cell, "testing", 0.0)
        encoder, seed = replace(self._images, decode=dataset.decode), cell.training.seed
        fimg = looks(encoder, method, dataset.root, items, seed)
        order = order_of(method, len(items), seed)
        start = time.perf_counter()
        classifier = Classifier(self._backbone, method, names, self._budget, card.class_names)
        plain = plain_views(fimg)
        answers = predictor(classifier, cell.mode, plain, card.hidden, self._images.cache)
        logits = in_turn(answers, fimg, order)
        seconds = time.perf_counter() - start
        truth = _labels(items)
        values = dict(evaluate(logits, truth))
        record = Record(
            cell=cell,
            correct=int(values.pop("correct")),
            total=int(values.pop("total")),
            metrics=values,
            class_names=names,
            train_images=len(images),
            parameters=sum(parameter.numel() for parameter in method.parameters()),
            learned_bytes=sum(tensor.nbytes for tensor in method.state_dict().values()),
            lr=card.lr,
            loss=card.log.epoch_losses,
            terms=card.log.epoch_terms,
            accuracy_by_epoch=card.accuracy,
            selected=card.selected | classifier.selected,
            selected_on=card.selected_on,
            order="" if order is None else f"seed {seed}, {digest(order.numpy().tobytes())[:16]}",
            seconds_to_train=card.seconds,
            seconds_per_step=card.log.seconds_per_step,
            seconds_per_image=seconds / len(items),
            peak_memory_mb=peak_memory_mb(),
            files=digest(*(repr(tuple(item)) for item in (*images, *items))),
            environment=self._environment,
            approximation=approximation(answers, plain),
            note=self._note(cell.training, card),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        stream = {} if order is None else {"order": order.to(torch.int32)}
        self.store.write(record, _top(logits) | {"labels": truth.to(torch.int32)} | stream)

    def _note(self, training: Training, card: PromptCard) -> str:
        """Return what must be known of the data, and of how many classes a step compared where not all."""
        notes = [self._open(training.dataset).note] if training.shots else []
        size = (training.recipe or {}).get("classes_per_step", 0)
        if 0 < size < (total := len(card.class_names + card.other_names)):
            notes.append(f"{training.label} was trained on {size} of {total} classes a step")
        return "; ".join(filter(None, notes))

    def assist(self, cell: Cell, resume: Snapshot | None) -> None:
        """Do this process's share of a fit that the first process of the group has begun."""
        with suppress(CocoopError):  # the first process meets it too, and writes it down
            self._train(cell, resume, lambda epoch: None)

    def _trained(self, cell: Cell, notify: Notify) -> tuple[Method, PromptCard, tuple[Item, ...]]:
        """Return the trained method, its card and its images; the prompt is read where the store has it."""
        training = cell.training
        path, checkpoint = self.store.prompt_path(training), self.store.checkpoint(training)
        if path.exists():
            checkpoint.delete()  # a process may have been killed before it could
            return (*self.store.prompt(training, self._backbone), self._data(cell)[1])
        if not training.learns:
            return self._train(cell, None, lambda epoch: None)
        resume = checkpoint.load()
        with tracked(self._tracker, self.store.folder / "tracking", training) as track:

            def on_epoch(epoch: Epoch) -> None:
                checkpoint.save(epoch.snapshot)
                notify(cell, f"loss {epoch.loss:.3f}", epoch.done / epoch.total)
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
        card = PromptCard(
            method=training.method,
            config=training.config,
            backbone=training.backbone,
            weights=training.weights,
            template=dataset.template,
            class_names=names,
            other_names=_other_names(training, dataset, names),
            seed=training.seed,
            notes={"training": training.model_dump()},
        )
        cut = cut_of(build_method(card, self._backbone))
        images = replace(self._images, decode=dataset.decode, cut=cut)
        recipe = from_dict(Recipe, training.recipe) if training.recipe else None

        def views(epoch: int) -> Tensor | Live:
            return images.train(dataset.root, items, epoch, training.seed, None, *training_views(recipe))

        def validation(selection: Selection) -> Validation:
            held = _validation(dataset, training, selection)
            return images.test(dataset.root, held), _labels(held)

        method, card = train(
            card,
            recipe,
            self._backbone,
            Samples(views, _labels(items), validation, lambda: images.test(dataset.root, items)),
            memory_budget=self._budget,
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
        dataset = self._open(training.dataset if training.learns else cell.testing.dataset)
        labels = subset_labels(range(len(dataset.class_names)), training.subset)
        names = [dataset.class_names[label] for label in labels]
        if not training.shots:
            return dataset, (), names
        return dataset, select(draw(dataset.splits, training.shots, training.seed)["train"], labels), names


def _other_names(training: Training, dataset: Dataset, names: Sequence[str]) -> list[str]:
    """Return the names of the dataset's other classes, for a method whose training sees them."""
    if not facts_of(training.method).sees_new_names:
        return []
    return [name for name in dataset.class_names if name not in set(names)]


def _validation(dataset: Dataset, training: Training, selection: Selection) -> tuple[Item, ...]:
    """Return the images of the training's classes that a method may select on."""
    labels = subset_labels(range(len(dataset.class_names)), training.subset)
    if selection == "few-shot validation":
        return select(validation_shots(dataset.splits, training.shots, training.seed), labels)
    lists = {"full validation": "val", "test": "test"}
    return select(dataset.splits.get(lists.get(selection, ""), ()), labels)


def _labels(items: Sequence[Item]) -> Int[Tensor, " n"]:
    return torch.tensor([item.label for item in items], dtype=torch.long)


def _top(logits: Tensor) -> dict[str, Tensor]:
    probabilities, classes = torch.softmax(logits, dim=1).topk(min(TOP, logits.shape[1]))
    return {"classes": classes.to(torch.int32), "probabilities": probabilities}
