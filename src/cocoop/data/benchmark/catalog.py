"""The registered datasets in facts, without opening those on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cocoop.data.benchmark.spec import Benchmark
from cocoop.data.datasets import DATASETS


@dataclass(frozen=True)
class Entry:
    """What is known of a dataset.

    Attributes:
        name: registered name.
        classes: how many.
        counts: images of every split.
        template: the zero-shot prompt.
        spec: where it lies and what it needs; None for an embedded one.
    """

    name: str
    classes: int
    counts: Mapping[str, int]
    template: str
    spec: Benchmark | None = None

    @property
    def images(self) -> str:
        """The counts in words."""
        return ", ".join(f"{split} {count:,}" for split, count in self.counts.items())

    def state(self, root: Path | None) -> str:
        """Whether it is there: "embedded", "found", "not found", or "" where no root is known."""
        if self.spec is None:
            return "embedded"
        if root is None:
            return ""
        return "found" if self.spec.image_folder(root).is_dir() else "not found"


def entries() -> list[Entry]:
    """Return all registered datasets, the embedded ones first."""
    return sorted(map(_entry, DATASETS.names()), key=lambda entry: (entry.spec is not None, entry.name))


def template_of(name: str) -> str:
    """Return the zero-shot prompt of a dataset. Raises UsageError where none has this name."""
    DATASETS.get(name)
    return _entry(name).template


def _entry(name: str) -> Entry:
    dataset = DATASETS.get(name)
    if isinstance(dataset, Benchmark):
        return Entry(name, dataset.classes, dataset.counts, dataset.template, dataset)
    opened = dataset(None)
    counts = {split: len(items) for split, items in opened.splits.items()}
    return Entry(name, len(opened.class_names), counts, opened.template)
