"""Records to rows of a table: what belongs together, means over seeds, averages over datasets."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd

from cocoop.experiments.record import Record

AVERAGE = "average"

Row = dict[str, Any]
Key = TypeVar("Key", bound=Hashable)


def harmonic_mean(base: float, new: float) -> float:
    """Return H = 2 base new / (base + new), 0 where both are.

    Examples:
        >>> round(harmonic_mean(80.47, 71.69), 2)  # CoCoOp's averages in the paper
        75.83
    """
    return 2 * base * new / (base + new) if base + new else 0.0


def disambiguate(records: Sequence[Record], shots: bool = True) -> list[Record]:
    """Add to the labels of methods the shots, backbone, precision and test images, where the records differ.

    Args:
        records: of one protocol.
        shots: whether to add them; not where they are what the protocol varies.
    """
    trainings = [record.cell.training for record in records]
    several_shots = shots and len({training.shots for training in trainings if training.shots}) > 1
    several_backbones = len({training.weights for training in trainings}) > 1
    several_precisions = len({training.precision for training in trainings}) > 1
    several_samples = len({record.cell.testing.sample for record in records}) > 1
    labelled = []
    for record in records:
        training = record.cell.training
        additions = [f"{training.shots} shots"] if several_shots and training.shots else []
        additions += [training.backbone] if several_backbones else []
        additions += [training.precision] if several_precisions else []
        additions += [f"{record.cell.testing.sample or 'all'} test images"] if several_samples else []
        label = f"{training.label} ({', '.join(additions)})" if additions else training.label
        cell = record.cell.model_copy(update={"training": training.model_copy(update={"label": label})})
        labelled.append(record.model_copy(update={"cell": cell}))
    return labelled


def grouped(records: Sequence[Record], key: Callable[[Record], Key]) -> Iterator[tuple[Key, list[Record]]]:
    """Yield the records of every key, the keys sorted."""
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    yield from sorted(groups.items())


def by_dataset_and_method(records: Sequence[Record]) -> Iterator[tuple[tuple[str, str], list[Record]]]:
    """Yield the records of every tested dataset and method's label, sorted."""
    return grouped(records, lambda record: (record.cell.testing.dataset, record.cell.training.label))


def over_seeds(accuracies: Mapping[str, Sequence[float]]) -> Row | None:
    """Return the mean and the sample deviation of every column as "X" and "X_std", and the fewest seeds.

    None where a column has no values yet.
    """
    if not all(accuracies.values()):
        return None
    row: Row = {}
    for name, values in accuracies.items():
        column = pd.Series(values, dtype=float)
        row |= {name: column.mean(), f"{name}_std": column.std()}
    return row | {"seeds": min(map(len, accuracies.values()))}


def with_averages(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows as a table, with an average row a method where there are several datasets.

    Where rows have H, an average row has the H of its averages of base and new, as in the paper, and the mean
    of the datasets' H as "mean_H". "datasets" says how many rows it covers.
    """
    averages: list[Row] = []
    if len({row["dataset"] for row in rows}) > 1:
        for method, part in pd.DataFrame(rows).groupby("method", sort=True):
            row = {"dataset": AVERAGE, "method": method, **part[list(columns)].mean()}
            if "H" in part:
                row |= {"H": harmonic_mean(row["base"], row["new"]), "mean_H": part["H"].mean()}
            averages.append(row | {"seeds": part["seeds"].min(), "datasets": len(part)})
    return pd.DataFrame([*rows, *averages])
