"""How results came about: settings, data, versions and cost, gathered from their records."""

from collections.abc import Iterable, Sequence
from typing import Any

from cocoop.experiments.record import Record
from cocoop.report.tables.tables import rank


def settings(records: Sequence[Record]) -> dict[str, Any]:
    """Return what the page says on how the records were made.

    Keys: "general" (name to value), "methods" (one entry for each settings of a label) and "data" (one
    entry a dataset and subset).
    """
    return {"general": _general(records), "methods": _methods(records), "data": _data(records)}


def _general(records: Sequence[Record]) -> dict[str, str]:
    trainings = [record.cell.training for record in records]
    learned = [training for training in trainings if training.learns]
    values = {
        "backbone": _list(f"{training.backbone} (weights {training.weights[:12]})" for training in trainings),
        "seeds": ", ".join(map(str, sorted({training.seed for training in learned}))),
        "shots": _list(training.shots for training in learned),
    }
    environments = [record.environment for record in records]
    for name in ("machine", "commit"):
        values[name] = _list(environment[name] for environment in environments if name in environment)
    packages = dict.fromkeys(
        name for environment in environments for name in environment if name not in values
    )
    versions = {name: _list(e[name] for e in environments if name in e) for name in packages}
    values["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    days = sorted({record.created[:10] for record in records})
    values["run on"] = " to ".join(dict.fromkeys(days[:1] + days[-1:]))
    if records:
        values["peak memory"] = f"{max(record.peak_memory_mb for record in records):,.0f} MiB"
    return {name: value for name, value in values.items() if value}


def _methods(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one entry for each settings of a label: its preset, settings, recipe and cost."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        training = record.cell.training
        settings = training.model_dump(include={"label", "preset", "config", "recipe"})
        groups.setdefault(repr(settings), []).append(record)
    return [_method(group) for group in sorted(groups.values(), key=lambda g: rank(g[0].cell.training.label))]


def _method(group: Sequence[Record]) -> dict[str, Any]:
    training = group[0].cell.training
    steps = {record.cell.training.key: record.seconds_per_step for record in group if record.seconds_per_step}
    return {
        "label": training.label,
        "preset": training.preset,
        "config": _settings(training.config),
        "recipe": _settings(training.recipe or {}),
        "step": _seconds(list(steps.values())),
    }


def _settings(values: dict[str, Any]) -> dict[str, str]:
    return {name: _setting(value) for name, value in values.items()}


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seconds(means: Sequence[float]) -> str:
    """Return the mean time of a step over trainings, with its range where it has one."""
    if not means:
        return ""
    unit, scale = ("s", 1.0) if max(means) >= 1 else ("ms", 1000.0)
    mean, low, high = (scale * value for value in (sum(means) / len(means), min(means), max(means)))
    spread = f" ({low:.3g} to {high:.3g})" if f"{low:.3g}" != f"{high:.3g}" else ""
    return f"{mean:.3g} {unit}{spread}"


def _data(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one entry for each thing tested on: classes, test images, and images trained on for it."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        testing = record.cell.testing
        groups.setdefault((testing.dataset, testing.subset, testing.split), []).append(record)
    return [
        {
            "dataset": dataset,
            "classes": f"{len(group[0].class_names)} {subset}" + (f", {split}" if split != "test" else ""),
            "test": _list(record.total for record in group),
            "train": _list(record.train_images for record in group if record.cell.training.shots) or "–",
        }
        for (dataset, subset, split), group in sorted(groups.items())
    ]


def _list(values: Iterable[Any]) -> str:
    return " or ".join(map(str, sorted(set(values))))
