"""The tables and figures of papers as runs: a protocol, datasets, methods and seeds under one name."""

from dataclasses import dataclass, replace
from pathlib import Path

from cocoop.data.benchmark.fetch import lacks
from cocoop.data.benchmark.remote import ByHand
from cocoop.data.benchmark.spec import GET, Benchmark
from cocoop.data.datasets import DATASETS
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.experiments.protocols import PAPER_METHODS, PAPER_SHOTS
from cocoop.experiments.protocols.domain_generalization import VARIANTS
from cocoop.methods import METHODS, baseline

IMAGENET = "imagenet"
ELEVEN = (
    IMAGENET,
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "oxford_flowers",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
)
PAPER_BACKBONE = "ViT-B-16/openai"
PAPER_SEEDS = (1, 2, 3)
QUICK = 500  # test images of every test, for a first look


@dataclass(frozen=True)
class PublishedTable:
    """What a table of a paper needs.

    Attributes:
        protocol: registered name.
        datasets: that are trained on or tested.
        methods: registered names.
        source: what protocols of transfer train on.
        shots: training images a class.
        seeds: one training each.
    """

    protocol: str
    datasets: tuple[str, ...] = ELEVEN
    methods: tuple[str, ...] = PAPER_METHODS
    source: str | None = None
    shots: int = PAPER_SHOTS
    seeds: tuple[int, ...] = PAPER_SEEDS

    @property
    def needed(self) -> tuple[str, ...]:
        """The datasets whose images are needed, shifted domains among them."""
        shifted = VARIANTS.get(self.source or "", ()) if self.protocol == "domain-generalization" else ()
        return (*self.datasets, *shifted)


TABLES = {
    "table-1": PublishedTable("base-to-new"),
    "table-2": PublishedTable("cross-dataset", source=IMAGENET),
    "table-3": PublishedTable("domain-generalization", (IMAGENET,), source=IMAGENET),
    "table-4": PublishedTable("class-incremental"),
    "table-5": PublishedTable("ablation", (IMAGENET,), PAPER_METHODS),
    "figure-4": PublishedTable("ablation", methods=(baseline(), "cocoop")),
}


def published_table(name: str, datasets: tuple[str, ...] = ()) -> PublishedTable:
    """Return what to run for a table of the CoCoOp paper, or for a method: its base-to-new results.

    Args:
        name: "table-1" to "table-5", "figure-4", or a registered method.
        datasets: only these of them.

    Raises:
        UsageError: there is no such table or method, or it has none of these datasets.
    """
    if name in TABLES:
        table = TABLES[name]
    elif name in METHODS.names():
        table = PublishedTable("base-to-new", methods=(baseline(), name))
    else:
        raise unknown("table", name, [*TABLES, *METHODS.names()])
    if not datasets:
        return table
    if other := [each for each in datasets if each not in table.datasets]:
        raise UsageError(f"{name} has no {other[0]}; its datasets: {', '.join(table.datasets)}")
    return replace(table, datasets=tuple(each for each in table.datasets if each in datasets))


def require_data(table: PublishedTable, root: Path | None) -> None:
    """Look for the images and labels of a table's datasets.

    Raises:
        UsageError: there is no data root.
        CocoopError: some are missing; the message says which, how large they are and how to get them.
    """
    lines, names = [], []
    for name in table.needed:
        spec = DATASETS.get(name)
        if isinstance(spec, Benchmark) and (jobs := lacks(spec, spec.check_root(root))):
            by_hand = any(isinstance(job.what, ByHand) for job in jobs)
            size = sum(job.size for job in jobs)
            what = "155 GB, by hand" if by_hand else f"{size / 1e9:.2f} GB" if size else "its labels"
            lines.append(f"\n  {name}: {what}")
            names.append(name)
    if names:
        raise CocoopError(
            f"not under {root}:{''.join(lines)}\nGet them: {GET.format(' '.join(names), root)}\n"
            "or leave them out: --datasets with a part of the table's"
        )
