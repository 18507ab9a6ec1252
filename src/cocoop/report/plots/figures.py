"""Which plots a protocol's results can fill, with the words under them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from cocoop.errors import CocoopError
from cocoop.experiments.aggregate import AVERAGE
from cocoop.experiments.protocols import PROTOCOLS
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.methods import facts_of, ordered
from cocoop.report.plots.cost import accuracy_and_cost
from cocoop.report.plots.curves import lengths, shots
from cocoop.report.plots.gains import gains
from cocoop.report.plots.reliability import Outcomes, reliability
from cocoop.report.plots.svg import Colours
from cocoop.report.plots.tradeoff import tradeoff
from cocoop.report.plots.training_time import training_time
from cocoop.report.plots.variants import variants
from cocoop.report.tables.blocks import CLOSELY, first_label, leading, references
from cocoop.report.tables.cost import costs
from cocoop.report.tables.results import Results


@dataclass(frozen=True)
class Figure:
    """One plot with the words under it."""

    svg: Markup
    caption: str


def figures(result: Results, store: Store, colours: Colours) -> Iterator[Figure]:
    """Yield the plots of one protocol."""
    frame, records = result.frame, result.records
    if frame.empty:
        return
    if result.protocol.varies == "methods":
        yield from _methods(frame, colours)
        shown = leading(frame, CLOSELY)
        records = tuple(record for record in records if record.cell.training.label in shown)
        words = "Calibration: on the dotted line, 80 of 100 answers given with 80 % confidence are right."
        yield from _figure(reliability(_outcomes(store, records), colours), words)
    if result.protocol.varies == "shots":
        words = (
            "Accuracy over training images a class, mean over seeds; the band is a standard deviation to "
            "each side. Dashed: nothing is learned."
        )
        yield from _figure(shots(frame, records, colours), words)
    if result.protocol.varies == "settings":
        yield from _figure(variants(frame), "Every variant, averaged over the datasets.")
        words = "A longer context, of random vectors. Dashed: the context starts from words."
        yield from _figure(lengths(frame, records), words)
    words = "Accuracy against time to train; image features are encoded beforehand, once for all methods."
    yield from _figure(accuracy_and_cost(costs(result), colours), words)


def training_figures(records: Sequence[Record], colours: Colours) -> Iterator[Figure]:
    """Yield the plot of how long the methods of all protocols train."""
    plain = [r for r in records if PROTOCOLS.get(r.cell.protocol).varies == "methods"]
    yield from _figure(training_time(plain or records, colours), "Mean over the trainings of a method.")


def _figure(drawing: str | None, caption: str) -> Iterator[Figure]:
    if drawing:
        yield Figure(Markup(drawing), caption)


def _methods(frame: pd.DataFrame, colours: Colours) -> Iterator[Figure]:
    words = "Base against new classes; the light curves join points of equal H."
    if AVERAGE in set(frame["dataset"]):
        words += " Large markers are averages, small ones single datasets."
    if "H" in frame:
        yield from _figure(tradeoff(frame, colours), words)
    if frame["method"].nunique() > CLOSELY:
        return  # two plots a method are too many to look at
    labels = (first_label(frame, name) for name in reversed(ordered()) if not facts_of(name).baseline)
    for method in filter(None, labels):
        for reference in references(frame, method):
            words = f"What {method} gains over {reference}, by dataset."
            yield from _figure(gains(frame, method, reference, colours), words)


def _outcomes(store: Store, records: Sequence[Record]) -> dict[str, dict[str, Outcomes]]:
    """Return, for what was trained on and for what was not, every method's outcomes over images and seeds."""
    parts: defaultdict[str, defaultdict[str, list[Outcomes]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        try:
            classes, probabilities, labels = store.predictions(record)
        except CocoopError:
            continue  # the plot does without it
        correct = (classes[:, 0] == labels).numpy()
        parts[_part(record)][record.cell.training.label].append((probabilities[:, 0].numpy(), correct))
    return {
        part: {label: _joined(outcomes) for label, outcomes in parts[part].items()} for part in sorted(parts)
    }


def _joined(outcomes: Sequence[Outcomes]) -> Outcomes:
    confidences, correct = zip(*outcomes, strict=True)
    return np.concatenate(confidences), np.concatenate(correct)


def _part(record: Record) -> str:
    """Name the part of a protocol's tests that a record is of."""
    train, test = record.cell.training, record.cell.testing
    if test.subset != "all":
        return f"{test.subset} classes"
    home = train.dataset == test.dataset and test.split == "test"
    return "source" if home else "target"
