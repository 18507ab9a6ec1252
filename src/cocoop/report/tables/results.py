"""The records of a run folder, protocol by protocol, each with its table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from cocoop.experiments.aggregate import disambiguate, grouped
from cocoop.experiments.cell import Testing
from cocoop.experiments.protocols import PROTOCOLS, Protocol
from cocoop.experiments.record import Record
from cocoop.report.tables import tables
from cocoop.report.tables.published import join


@dataclass(frozen=True)
class Results:
    """What is known of one protocol.

    Attributes:
        name: of the protocol, as registered.
        records: of the protocol, with labels that say where settings differ.
        p: a p value for every row of the table, where methods were compared; a column of it then.
        p_note: what the column says, in a sentence.
    """

    name: str
    records: tuple[Record, ...]
    p: "pd.Series[float] | None" = field(default=None, compare=False)
    p_note: str = ""

    @property
    def protocol(self) -> Protocol:
        """The protocol."""
        return PROTOCOLS.get(self.name)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table in reading order, with the paper's columns where they are of the same thing."""
        frame = tables.in_order(self.protocol.table(self.records))
        frame = frame if frame.empty else join(frame, self.name, self.records)
        return frame if self.p is None else frame.assign(**{tables.P_VALUE: self.p})

    @cached_property
    def learned(self) -> set[str]:
        """Labels of the methods that are trained."""
        return {record.cell.training.label for record in self.records if record.cell.training.learns}

    def row_of(self, record: Record) -> str | None:
        """Return the name of the table's row that has the score of a record; None for a source's own test."""
        train, test = record.cell.training, record.cell.testing
        if "target" not in self.frame:
            return test.dataset
        target = test.split if test.dataset == train.dataset else test.dataset
        return None if target == "test" else f"{train.dataset} → {target}"


def results(records: Sequence[Record]) -> Iterator[Results]:
    """Yield the results of every protocol, in the order of the paper."""
    for (_, name), group in grouped(records, lambda record: _place(record.cell.protocol)):
        yield Results(name, tuple(disambiguate(group, shots=PROTOCOLS.get(name).varies != "shots")))


def unseen_tests(records: Sequence[Record]) -> Iterator[tuple[Testing, list[Record]]]:
    """Yield the tests of one protocol on what was not trained on, or all tests, with their records.

    These are the tests of the new classes, and those of the targets where prompts are transferred.
    """
    by_testing: dict[Testing, list[Record]] = {}
    for record in records:
        by_testing.setdefault(record.cell.testing, []).append(record)
    with_new = {testing.dataset for testing in by_testing if testing.subset == "new"}
    sources = {(record.cell.training.dataset, "test") for record in records}
    targets = {testing for testing in by_testing if (testing.dataset, testing.split) not in sources}
    for testing in sorted(targets or by_testing, key=lambda t: (t.dataset, t.subset, t.split)):
        if testing.subset != "base" or testing.dataset not in with_new:
            yield testing, by_testing[testing]


def _place(name: str) -> tuple[int, str]:
    return (PROTOCOLS.get(name).order, name)
