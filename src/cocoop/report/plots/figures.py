"""Which plots a protocol's results can fill, with the words under them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from cocoop.errors import CocoopError
from cocoop.experiments.protocols import PROTOCOLS
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.methods import METHODS, ordered
from cocoop.report.plots import cost as costs
from cocoop.report.plots.curves import lengths, shots
from cocoop.report.plots.gains import gains
from cocoop.report.plots.reliability import Outcomes, reliability
from cocoop.report.plots.svg import Colours
from cocoop.report.plots.tradeoff import tradeoff
from cocoop.report.plots.variants import variants
from cocoop.report.tables.blocks import compared, first
from cocoop.report.tables.results import Results


@dataclass(frozen=True)
class Figure:
    """One plot with the words under it."""

    svg: Markup
    caption: str


def figures(found: Results, store: Store, colours: Colours) -> Iterator[Figure]:
    """Yield the plots of one protocol."""
    frame, records = found.frame, found.records
    if frame.empty:
        return
    if found.protocol.varies == "methods":
        yield from _methods(frame, colours)
        drawn = reliability(_outcomes(store, records), colours)
        words = (
            "How far probabilities can be believed: on the dotted line, 80 of 100 answers given with 80 % "
            "confidence are right."
        )
        yield from _figure(drawn, words)
    if found.protocol.varies == "shots":
        words = (
            "Accuracy over training images a class, mean over seeds; the band is a standard deviation to "
            "each side. Dashed: nothing is learned."
        )
        yield from _figure(shots(frame, records, colours), words)
    if found.protocol.varies == "settings":
        yield from _figure(variants(frame), "Every variant, averaged over the datasets.")
        words = "A longer context, of random vectors. Dashed: the context starts from words."
        yield from _figure(lengths(frame, records), words)


def cost(records: Sequence[Record], colours: Colours) -> Iterator[Figure]:
    """Yield the plots of how all methods were trained."""
    plain = [r for r in records if PROTOCOLS.get(r.cell.protocol).varies == "methods"]
    words = (
        "Time a training image is the mean over trainings. Memory is the highest that the process had held "
        "until the test was done, so what ran before in the same process counts too."
    )
    yield from _figure(costs.cost(plain or records, colours), words)


def _figure(svg: str | None, caption: str) -> Iterator[Figure]:
    if svg:
        yield Figure(Markup(svg), caption)


def _methods(frame: pd.DataFrame, colours: Colours) -> Iterator[Figure]:
    words = "Base against new classes. Thin lines join one dataset, light curves points of equal H."
    if "H" in frame:
        yield from _figure(tradeoff(frame, colours), words)
    labels = (first(frame, name) for name in reversed(ordered()) if not METHODS.get(name).facts.baseline)
    for method in filter(None, labels):
        for other in compared(frame, method):
            words = f"What {method} gains over {other}, by dataset."
            yield from _figure(gains(frame, method, other, colours), words)


def _outcomes(store: Store, records: Sequence[Record]) -> dict[str, dict[str, Outcomes]]:
    """Return, for what was trained on and for what was not, every method's outcomes over images and seeds."""
    found: defaultdict[str, defaultdict[str, list[Outcomes]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        try:
            classes, probabilities, labels = store.predictions(record)
        except CocoopError:
            continue  # the plot does without it
        right = (classes[:, 0] == labels).numpy()
        part = found[_part(record)]
        part[record.cell.training.label].append((probabilities[:, 0].numpy(), right))
    return {
        name: {label: (np.concatenate(c), np.concatenate(r)) for label, (c, r) in _columns(found[name])}
        for name in sorted(found)
    }


def _columns(
    part: dict[str, list[Outcomes]],
) -> Iterator[tuple[str, tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]]]:
    for label, pairs in part.items():
        confidences, rights = zip(*pairs, strict=True)
        yield label, (confidences, rights)


def _part(record: Record) -> str:
    """Name the part of a protocol's tests that a record is of."""
    train, test = record.cell.training, record.cell.testing
    if test.subset != "all":
        return f"{test.subset} classes"
    home = train.dataset == test.dataset and test.split == "test"
    return "source" if home else "target"
