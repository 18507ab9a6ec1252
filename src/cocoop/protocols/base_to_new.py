"""Base-to-new generalization (Table 1): train on the first half of the classes, test on both halves.

Candidates are the names of the half that is tested. The harmonic mean H of a dataset is taken of its
seed means; the average row's H is taken of the two averages, as in the paper, and the mean of the
datasets' H stands beside it.
"""

from collections.abc import Sequence

import pandas as pd

from cocoop.cells import Cell, Testing, training
from cocoop.data.splits import Subset
from cocoop.protocols import PROTOCOLS, Protocol, Settings
from cocoop.store import Record

NAME = "base-to-new"
AVERAGE = "average"
HALVES: tuple[Subset, Subset] = ("base", "new")


def harmonic_mean(base: float, new: float) -> float:
    """Return H = 2 base new / (base + new), 0 where both are."""
    return 2 * base * new / (base + new) if base + new else 0.0


def cells(settings: Settings) -> list[Cell]:
    """Return two cells for every dataset, method and seed: one prompt, tested on base and on new."""
    found: dict[str, Cell] = {}
    for dataset in settings.datasets:
        for choice in settings.methods:
            for seed in settings.seeds:
                trained = training(
                    choice,
                    backbone=settings.backbone,
                    weights=settings.weights,
                    precision=settings.precision,
                    dataset=dataset,
                    subset="base",
                    shots=settings.shots,
                    seed=seed,
                )
                for half in HALVES:
                    cell = Cell(
                        protocol=NAME, training=trained, testing=Testing(dataset=dataset, subset=half)
                    )
                    found.setdefault(cell.key, cell)  # zero-shot is the same for all seeds
    return list(found.values())


def table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for every dataset and method, then an average row for every method.

    Columns: dataset, method, base, base_std, new, new_std (percent; sample deviation over seeds), H, seeds,
    and, where there are several datasets, average rows with mean_H (the mean of the datasets' H) and
    datasets (how many they cover).
    """
    rows = [row for row in map(_dataset_row, _groups(records)) if row]
    several = len({row["dataset"] for row in rows}) > 1
    return pd.DataFrame(rows + (_average_rows(rows) if several else []))


def _groups(records: Sequence[Record]) -> list[list[Record]]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.cell.testing.dataset, record.cell.training.label), []).append(record)
    return [groups[key] for key in sorted(groups)]


def _dataset_row(group: Sequence[Record]) -> dict[str, object] | None:
    """Return the row of one dataset and method, or None until both halves are there."""
    accuracies = {
        half: pd.Series([r.accuracy for r in group if r.cell.testing.subset == half], dtype=float)
        for half in HALVES
    }
    if any(values.empty for values in accuracies.values()):
        return None
    base, new = (accuracies[half] for half in HALVES)
    return {
        "dataset": group[0].cell.testing.dataset,
        "method": group[0].cell.training.label,
        "base": base.mean(),
        "base_std": base.std(),
        "new": new.mean(),
        "new_std": new.std(),
        "H": harmonic_mean(base.mean(), new.mean()),
        "seeds": min(len(base), len(new)),
    }


def _average_rows(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    frame = pd.DataFrame(rows)
    if frame.empty:
        return []
    averages: list[dict[str, object]] = []
    for method, part in frame.groupby("method", sort=True):
        base, new = part["base"].mean(), part["new"].mean()
        averages.append(
            {
                "dataset": AVERAGE,
                "method": method,
                "base": base,
                "new": new,
                "H": harmonic_mean(base, new),
                "seeds": part["seeds"].min(),
                "mean_H": part["H"].mean(),
                "datasets": len(part),
            }
        )
    return averages


PROTOCOLS.register(NAME)(Protocol("Base-to-new generalization", cells, table))
