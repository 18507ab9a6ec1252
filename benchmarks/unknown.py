"""How far probabilities can be trusted, and whether images of no class are told apart: the embedded groups.

`python -m benchmarks.unknown [METHOD] [PRESET]` fits half of the classes of every group with three seeds,
calibrates on their validation images, and tests on their test images: those of the other half are unknown.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from cocoop import Dataset, PromptClassifier, open_dataset
from cocoop.data import Item, select, subset_labels
from cocoop.data.datasets.emoji import GROUPS
from cocoop.estimator.calibration import SCORES, calibration_error, separation
from cocoop.estimator.features import encoder
from cocoop.methods._recipe import training_views

SEEDS = (1, 2, 3)


def halves(data: Dataset) -> tuple[Dataset, Dataset]:
    """Split a dataset by its classes, as base and new are."""
    labels = range(len(data.class_names))
    parts = [subset_labels(labels, subset) for subset in ("base", "new")]
    known, unknown = (
        replace(data, splits={split: select(items, part) for split, items in data.splits.items()})
        for part in parts
    )
    return known, unknown


def measure(data: Dataset, method: str, preset: str | None, seed: int) -> dict[str, float]:
    """Fit, calibrate and test once; return the figures by name."""
    known, unknown = halves(data)
    model = PromptClassifier(method, "tiny-clip", preset=preset, seed=seed, device="cpu")
    images, train = encoder(model.load_backbone(), known), known.items("train")
    recipe = model.choice.recipe
    views = lambda epoch: images.train(known.root, train, epoch, seed, None, *training_views(recipe))  # noqa: E731
    model.fit_features(views, [item.name for item in train])

    def features(items: tuple[Item, ...]) -> torch.Tensor:
        return images.test(data.root, items)

    model.calibrate_features(features(known.items("val")), [item.name for item in known.items("val")])
    answers, away = (model.answers(features(each.items("test"))) for each in (known, unknown))
    truth = torch.tensor([item.label for item in known.items("test")])
    limit = model.info_.unknown
    assert limit is not None
    heat = model.temperature
    found = {score: separation(answers.score(score, heat), away.score(score, heat)) for score in SCORES}
    return {
        "error before": calibration_error(answers.logits.softmax(1), truth),
        "error after": calibration_error((answers.logits / heat).softmax(1), truth),
        **{f"AUROC {score}": each.auroc for score, each in found.items()},
        "AUROC chosen": found[limit.score].auroc,
        "known answered": float((answers.score(limit.score, heat) >= limit.value).double().mean()),
        "unknown answered": float((away.score(limit.score, heat) >= limit.value).double().mean()),
    }


def rows(method: str, preset: str | None) -> Iterator[tuple[str, dict[str, tuple[float, float]]]]:
    """Yield mean and standard deviation over the seeds, a group at a time."""
    for group in GROUPS:
        data = open_dataset(f"emoji/{group}")
        found = [measure(data, method, preset, seed) for seed in SEEDS]
        columns = {name: torch.tensor([each[name] for each in found]) for name in found[0]}
        yield group, {name: (float(each.mean()), float(each.std())) for name, each in columns.items()}


def main() -> None:
    """Print a table."""
    method, preset = [*sys.argv[1:], None, None][:2] if len(sys.argv) > 1 else ("coop", "coop-quick")
    assert method is not None
    made = dict(rows(method, preset))
    table = Table(*("group", *next(iter(made.values()))))
    for group, row in made.items():
        table.add_row(group, *(f"{mean:.3f} ± {std:.3f}" for mean, std in row.values()))
    means = [sum(row[name][0] for row in made.values()) / len(made) for name in next(iter(made.values()))]
    table.add_row("average", *(f"{mean:.3f}" for mean in means))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
