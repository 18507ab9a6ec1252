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
        records: its own, told apart by label.
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
    for (_, name), own in grouped(records, lambda record: _place(record.cell.protocol)):
        yield Results(name, tuple(disambiguate(own, shots=PROTOCOLS.get(name).varies != "shots")))


def tested(records: Sequence[Record]) -> Iterator[tuple[Testing, list[Record]]]:
    """Yield the records of every test of one protocol that is worth a closer look.

    That is of the new classes where it tests on them apart, and of the targets where it tests on other data.
    """
    by_testing: dict[Testing, list[Record]] = {}
    for record in records:
        by_testing.setdefault(record.cell.testing, []).append(record)
    names = {testing.dataset for testing in by_testing if testing.subset == "new"}
    homes = {(record.cell.training.dataset, "test") for record in records}
    away = {testing for testing in by_testing if (testing.dataset, testing.split) not in homes}
    for testing in sorted(away or by_testing, key=lambda t: (t.dataset, t.subset, t.split)):
        if testing.subset != "base" or testing.dataset not in names:
            yield testing, by_testing[testing]


def _place(name: str) -> tuple[int, str]:
    return (PROTOCOLS.get(name).order, name)
