"""The records of a run folder, protocol by protocol, each with its table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    """

    name: str
    records: tuple[Record, ...]

    @property
    def protocol(self) -> Protocol:
        """The protocol."""
        return PROTOCOLS.get(self.name)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table in reading order, with the paper's columns where they are of the same thing."""
        frame = tables.in_order(self.protocol.table(self.records))
        return frame if frame.empty else join(frame, self.name, self.records)

    @cached_property
    def learned(self) -> set[str]:
        """Labels of the methods that are trained."""
        return {record.cell.training.label for record in self.records if record.cell.training.learns}


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
