"""Example predictions: a few test images a dataset, with what each method says about them."""

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cocoop.data import Dataset, Item, open_dataset
from cocoop.data.images import open_image
from cocoop.errors import CocoopError
from cocoop.experiments.cell import Testing
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.report.tables.results import tested
from cocoop.report.tables.tables import rank
from cocoop.utils.files import digest

SHOWN = 6  # images a dataset
TOP = 3  # names a method
EDGE = 96  # pixels of an image's longer side


@dataclass(frozen=True)
class Guess:
    """What one method says about one image: its best names with their probabilities."""

    method: str
    right: bool
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Example:
    """One test image, as a data URI, with its true name."""

    image: str
    truth: str
    guesses: tuple[Guess, ...]


@dataclass(frozen=True)
class Group:
    """The examples of one dataset.

    Attributes:
        testing: what the images are from.
        seeds: of the trainings, by method.
        total: test images.
        right: how many of them each method has right, by method.
        examples: the chosen ones; none where there is a problem.
        problem: why there are none, or nothing.
    """

    testing: Testing
    seeds: dict[str, int]
    total: int
    right: dict[str, int]
    examples: tuple[Example, ...] = ()
    problem: str = ""


def groups(store: Store, records: Sequence[Record], root: str | Path | None = None) -> Iterator[Group]:
    """Yield the examples of every dataset of one protocol.

    The lowest seed of each method is shown. Images that the methods disagree on come first, so the
    examples are not typical; the choice is the same each time. `root` is for `open_dataset`.
    """
    for testing, own in tested(records):
        yield _group(store, testing, _lowest_seeds(own), root)


def _lowest_seeds(records: Sequence[Record]) -> list[Record]:
    """Return one record a method, in the order of the tables."""
    first: dict[str, Record] = {}
    for record in sorted(records, key=lambda r: (r.cell.training.seed, r.cell.key)):
        first.setdefault(record.cell.training.label, record)
    return [first[label] for label in sorted(first, key=rank)]


def _group(store: Store, testing: Testing, records: Sequence[Record], root: str | Path | None) -> Group:
    seeds = {r.cell.training.label: r.cell.training.seed for r in records if r.cell.training.learns}
    right = {r.cell.training.label: r.correct for r in records}
    try:
        examples = tuple(_examples(store, testing, records, root))
        return Group(testing, seeds, records[0].total, right, examples)
    except CocoopError as error:
        return Group(testing, seeds, records[0].total, right, problem=str(error))


def _examples(
    store: Store, testing: Testing, records: Sequence[Record], root: str | Path | None
) -> Iterator[Example]:
    with _or_say("the dataset cannot be opened any more"):
        dataset = open_dataset(testing.dataset, root)
    items = _items(dataset, testing, records)
    guesses = [_guesses(store, record, items) for record in records]
    images = list(zip(*guesses, strict=True))  # by image, then by method
    for index in choose(items, [tuple(guess.right for guess in image) for image in images]):
        item = items[index]
        with _or_say("its images cannot be read any more"):
            image = open_image(dataset.root, item.path, dataset.decode)
        yield Example(data_uri(image), _words(item.name), images[index])


@contextmanager
def _or_say(problem: str) -> Iterator[None]:
    """Put a problem into words for the page, which goes to readers who have no use for a path here."""
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


def _guesses(store: Store, record: Record, items: Sequence[Item]) -> list[Guess]:
    with _or_say("its predictions are missing or damaged"):
        classes, probabilities, _ = store.predictions(record)
    names, label = [_words(name) for name in record.class_names], record.cell.training.label
    if len(classes) != len(items) or not 0 <= int(classes.min()) <= int(classes.max()) < len(names):
        raise CocoopError(
            f"the predictions of {label} do not fit the images of {record.cell.testing.dataset}"
        )
    rows = zip(items, classes[:, :TOP].tolist(), probabilities[:, :TOP].tolist(), strict=True)
    return [
        Guess(label, best[0] == item.label, tuple((names[i], p) for i, p in zip(best, chances, strict=True)))
        for item, best, chances in rows
    ]


def choose(items: Sequence[Item], right: Sequence[tuple[bool, ...]], count: int = SHOWN) -> list[int]:
    """Choose images: most where methods disagree, every kind of disagreement in turn, then one all right
    and one all wrong; of classes not shown yet where possible.

    Args:
        items: the images.
        right: which methods are right, for each image.
        count: how many to choose.
    """
    queues: dict[tuple[bool, ...], list[int]] = {}
    for index in sorted(range(len(items)), key=lambda index: digest(items[index].path)):  # no class first
        queues.setdefault(right[index], []).append(index)
    split = sorted((kind for kind in queues if len(set(kind)) > 1), reverse=True)
    agreed = sorted((kind for kind in queues if len(set(kind)) == 1), reverse=True)
    chosen: list[int] = []
    for kinds, rounds, until in (
        (split, count, count - 2),
        (agreed, 1, count),
        (split + agreed, count, count),
    ):
        for kind in kinds * rounds:
            if len(chosen) < until and queues[kind]:
                seen = {items[index].label for index in chosen}
                fresh = (index for index in queues[kind] if items[index].label not in seen)
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
