"""What must be known to read a table, in sentences."""

from collections.abc import Iterator, Sequence

import pandas as pd

from cocoop.data.splits import subset_labels
from cocoop.experiments.record import Record
from cocoop.methods import baseline, facts_of
from cocoop.report.tables.published import PREFIX, published
from cocoop.report.tables.tables import MARK, below
from cocoop.training.modes import in_words


def notes(frame: pd.DataFrame, records: Sequence[Record]) -> list[str]:
    """Return what must be known to read the table: seeds, shots, spread, averages, selection, sources."""
    trained = [record.cell.training for record in records if record.cell.training.learns]
    drawn = [record.cell.training for record in records if facts_of(record.cell.training.method).draws]
    seeds = sorted({training.seed for training in (*trained, *drawn)})
    shots = sorted({training.shots for training in trained if training.shots})
    backbones = sorted({record.cell.training.backbone for record in records})
    lines = [f"Accuracy in percent, backbone {', '.join(backbones)}."]
    if samples := sorted({record.cell.testing.sample for record in records} - {0}):
        lines.append(f"Only {_list(samples)} test images a test, drawn at random: for a first look.")
    if seeds:
        spread = (
            "± is the sample standard deviation over them" if len(seeds) > 1 else "a single one, no spread"
        )
        few = " (classes with fewer images give all they have)" if any(map(_has_few, records)) else ""
        images = f"Shots: {_list(shots)}{few}. " if shots else ""
        lines.append(f"{images}Seeds: {_list(seeds)}; {spread}.")
    lines += sorted({f"{record.note}." for record in records if record.note})
    if "mean_H" in frame:
        means = _by_method(frame, "mean_H")
        lines.append(
            f"Average rows: H of the average base and new. Mean of the datasets' H instead: {means}."
        )
    if below(frame, {training.label for training in trained}).any(axis=None):
        lines.append(f"{MARK} below zero-shot on what the prompt was not trained on.")
    if not any(record.cell.training.method == baseline() for record in records):
        lines.append(
            "Zero-shot CLIP is missing: run the protocol again to have it beside the learned prompts."
        )
    own = (*_selections(records), *_seen(records), *_adapted(records), *_approximate(records))
    return [*lines, *own, *_paper(frame)]


def _selections(records: Sequence[Record]) -> Iterator[str]:
    """Say what methods have selected their settings on."""
    by_images: dict[str, set[str]] = {}
    for record in records:
        if record.selected_on:
            by_images.setdefault(record.selected_on.split(",")[0], set()).add(record.cell.training.label)
    for images, labels in sorted(by_images.items()):
        yield f"Selected on {images}: {', '.join(sorted(labels))}."


def _seen(records: Sequence[Record]) -> Iterator[str]:
    """Say which methods have seen in training what counts as new."""
    tested = [record.cell for record in records if record.cell.transfers]
    kinds = {cell.training.label: cell.training.method for cell in tested}
    seen = [label for label, name in sorted(kinds.items()) if facts_of(name).sees_new_names]
    if seen:
        yield f"Trained with the names of the new classes too: {', '.join(seen)}."


def _approximate(records: Sequence[Record]) -> Iterator[str]:
    """Say whose logits are not all exact, and how far off they were found to be."""
    by_label: dict[str, list[Record]] = {}
    for record in records:
        if record.approximation:
            by_label.setdefault(record.cell.training.label, []).append(record)
    for label, some in sorted(by_label.items()):
        worst = max((record.approximation for record in some), key=lambda found: found["error"])
        yield f"{label}: {in_words(worst)}"


def _adapted(records: Sequence[Record]) -> Iterator[str]:
    """Say which methods have seen test images, of what, and in which order where it makes a difference."""
    kinds = {record.cell.training.label: record.cell.training.method for record in records}
    orders: dict[str, set[int]] = {}
    for record in records:
        if record.order:
            orders.setdefault(record.cell.training.label, set()).add(record.cell.training.seed)
    for label, name in sorted(kinds.items()):
        facts = facts_of(name)
        if facts.sees_test_images:
            seeds = f"; drawn by seed {_list(sorted(orders[label]))}" if label in orders else ""
            yield f"{label} sees test images, without labels: {facts.adaptation}{seeds}."


def _paper(frame: pd.DataFrame) -> list[str]:
    if not any(name.startswith(PREFIX) for name in frame.columns):
        return []
    facts = published()
    lines = [f"Columns “paper”: {facts['source']}; {facts['shots']} shots, {facts['seeds']} seeds."]
    if "paper mean_H" in frame and frame["paper mean_H"].notna().any():
        means = _by_method(frame, "paper mean_H")
        lines.append(f"Its average rows: H of its averages. Mean of its datasets' H instead: {means}.")
    return lines


def _by_method(frame: pd.DataFrame, column: str) -> str:
    rows = frame.dropna(subset=column)
    return ", ".join(
        f"{method} {mean:.2f}" for method, mean in zip(rows["method"], rows[column], strict=True)
    )


def _has_few(record: Record) -> bool:
    """Whether a training on the tested dataset had fewer images than its shots ask for."""
    training, test = record.cell.training, record.cell.testing
    if (
        not training.shots
        or training.dataset != test.dataset
        or test.candidates not in ("all", training.subset)
    ):
        return False
    names = range(len(record.class_names))
    trained = names if test.candidates == training.subset else subset_labels(names, training.subset)
    return record.train_images < training.shots * len(trained)


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
