"""Example predictions: a few test images a dataset, with what each method says about them."""

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from cocoop.data import Dataset, Item, open_dataset
from cocoop.data.decode import open_image
from cocoop.errors import CocoopError
from cocoop.experiments.cell import Testing
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.report.tables.results import unseen_tests
from cocoop.report.tables.tables import rank
from cocoop.utils.files import digest

SHOWN = 6  # images a dataset
TOP = 3  # names a method
EDGE = 96  # pixels of an image's longer side


@dataclass(frozen=True)
class Prediction:
    """What one method predicts for one image: its likeliest names with their probabilities."""

    method: str
    correct: bool
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Example:
    """One test image, as a data URI, with its true name."""

    image: str
    truth: str
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Group:
    """The examples of one dataset.

    Attributes:
        testing: what the images are from.
        seeds: of the trainings, by method.
        total: test images.
        correct: how many of them each method recognises, by method.
        examples: the chosen ones; none where there is a problem.
        problem: why there are none, or nothing.
    """

    testing: Testing
    seeds: dict[str, int]
    total: int
    correct: dict[str, int]
    examples: tuple[Example, ...] = ()
    problem: str = ""


def groups(store: Store, records: Sequence[Record], root: str | Path | None = None) -> Iterator[Group]:
    """Yield the examples of every dataset of one protocol.

    The lowest seed of each method is shown. Images that the methods disagree on come first, so the
    examples are not typical; the choice is the same each time. `root` is for `open_dataset`.
    """
    for testing, group in unseen_tests(records):
        yield _group(store, testing, _lowest_seeds(group), root)


def _lowest_seeds(records: Sequence[Record]) -> list[Record]:
    """Return one record a method, in the order of the tables."""
    first: dict[str, Record] = {}
    for record in sorted(records, key=lambda r: (r.cell.training.seed, r.cell.key)):
        first.setdefault(record.cell.training.label, record)
    return [first[label] for label in sorted(first, key=rank)]


def _group(store: Store, testing: Testing, records: Sequence[Record], root: str | Path | None) -> Group:
    seeds = {r.cell.training.label: r.cell.training.seed for r in records if r.cell.training.learns}
    group = Group(testing, seeds, records[0].total, {r.cell.training.label: r.correct for r in records})
    try:
        return replace(group, examples=tuple(_examples(store, testing, records, root)))
    except CocoopError as error:
        return replace(group, problem=str(error))


def _examples(
    store: Store, testing: Testing, records: Sequence[Record], root: str | Path | None
) -> Iterator[Example]:
    with _explained_as("the dataset cannot be opened any more"):
        dataset = open_dataset(testing.dataset, root)
    items = _items(dataset, testing, records)
    by_method = [_predictions(store, record, items) for record in records]
    by_image = list(zip(*by_method, strict=True))
    for index in choose(items, [tuple(p.correct for p in predictions) for predictions in by_image]):
        item = items[index]
        with _explained_as("its images cannot be read any more"):
            image = open_image(dataset.root, item.path, dataset.decode)
        yield Example(data_uri(image), _words(item.name), by_image[index])


@contextmanager
def _explained_as(problem: str) -> Iterator[None]:
    """Give an error the words of the page, whose readers have no use for a path on this machine."""
    try:
        yield
    except (CocoopError, OSError) as error:
        raise CocoopError(problem) from error


def _items(dataset: Dataset, testing: Testing, records: Sequence[Record]) -> tuple[Item, ...]:
    """Return the test items in the order of the predictions. Raises CocoopError where they changed."""
    items, names = testing.choose(dataset)
    if any(record.class_names != names or record.total != len(items) for record in records):
        raise CocoopError("its images or classes are no longer those of the runs")
    return items


def _predictions(store: Store, record: Record, items: Sequence[Item]) -> list[Prediction]:
    with _explained_as("its predictions are missing or damaged"):
        classes, probabilities, _ = store.predictions(record)
    names, label = [_words(name) for name in record.class_names], record.cell.training.label
    if len(classes) != len(items) or not 0 <= int(classes.min()) <= int(classes.max()) < len(names):
        raise CocoopError(
            f"the predictions of {label} do not fit the images of {record.cell.testing.dataset}"
        )
    rows = zip(items, classes[:, :TOP].tolist(), probabilities[:, :TOP].tolist(), strict=True)
    return [
        Prediction(
            label, best[0] == item.label, tuple((names[i], p) for i, p in zip(best, shares, strict=True))
        )
        for item, best, shares in rows
    ]


def choose(items: Sequence[Item], correct: Sequence[tuple[bool, ...]], count: int = SHOWN) -> list[int]:
    """Choose images: most where methods disagree, every kind of disagreement in turn, then one that all
    recognise and one that none does; of classes not shown yet where possible.

    Args:
        items: the images.
        correct: which methods recognise each image.
        count: how many to choose.
    """
    queues: dict[tuple[bool, ...], list[int]] = {}
    for index in sorted(range(len(items)), key=lambda index: digest(items[index].path)):  # no class first
        queues.setdefault(correct[index], []).append(index)
    disputed = sorted((kind for kind in queues if len(set(kind)) > 1), reverse=True)
    agreed = sorted((kind for kind in queues if len(set(kind)) == 1), reverse=True)
    chosen: list[int] = []
    for kinds, rounds, until in (
        (disputed, count, count - 2),
        (agreed, 1, count),
        (disputed + agreed, count, count),
    ):
        for kind in kinds * rounds:
            if len(chosen) < until and queues[kind]:
                shown = {items[index].label for index in chosen}
                fresh = (index for index in queues[kind] if items[index].label not in shown)
                chosen.append(next(fresh, queues[kind][0]))
                queues[kind].remove(chosen[-1])
    return chosen


def data_uri(image: Image.Image) -> str:
    """Return a small copy of an image as a data URI, with nothing of its file but the pixels."""
    small = image.convert("RGB")
    small.thumbnail((EDGE, EDGE))
    pixels = Image.new("RGB", small.size)
    pixels.paste(small)  # without the original's profile, comments and place
    file = io.BytesIO()
    pixels.save(file, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _words(name: str) -> str:
    return name.replace("_", " ")
