"""What Table 1 costs: steps and text sequences, counted from the datasets' facts; no data are needed.

    python benchmarks/table_cost.py
    python benchmarks/table_cost.py --train-rate 180 --eval-rate 450

A text sequence is one class name under one context: the unit of work of the text tower. CoCoOp needs one for
every image and class, in training and in testing; CoOp one for every class and step. The halves of a test set
are counted as equally large.
"""

import argparse
import math
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from cocoop.data.benchmark.catalog import Entry, entries
from cocoop.methods import METHODS
from cocoop.methods._recipe import Recipe

SHOTS = 16
COOP_EPOCHS_ON_IMAGENET = 50  # elsewhere those of the preset


def counts(entry: Entry) -> dict[str, int]:
    """Count the work of one seed of base-to-new on one dataset."""
    base = math.ceil(entry.classes / 2)
    images = SHOTS * base
    test = entry.counts["test"]
    found = {"base classes": base, "shots": images}
    for method in ("cocoop", "coop"):
        recipe = recipe_of(method, entry.name)
        steps = recipe.epochs * max(1, images // recipe.batch_size)
        found[f"{method} steps"] = steps
        found[f"{method} training"] = steps * base * (recipe.batch_size if method == "cocoop" else 1)
    found["cocoop testing"] = test * entry.classes // 2
    return found


def recipe_of(method: str, dataset: str) -> Recipe:
    """Return the paper's recipe of a method for a dataset."""
    recipe = next(iter(METHODS.get(method).presets.values())).recipe
    assert isinstance(recipe, Recipe)
    if (method, dataset) == ("coop", "imagenet"):
        return replace(recipe, epochs=COOP_EPOCHS_ON_IMAGENET)
    return recipe


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--train-rate", type=float, help="text sequences a second, see python -m benchmarks.text"
    )
    parser.add_argument("--eval-rate", type=float, help="the same in evaluation")
    options = parser.parse_args()
    rows = {entry.name: counts(entry) for entry in entries() if entry.spec and "train" in entry.counts}
    names = list(next(iter(rows.values())))
    total = {name: sum(row[name] for row in rows.values()) for name in names}
    table = Table("one seed", *names)
    for dataset, row in (rows | {"all": total}).items():
        table.add_row(dataset, *(f"{row[name]:,}" for name in names))
    console = Console(width=140)
    console.print(table)
    if options.train_rate and options.eval_rate:
        seconds = (total["cocoop training"] + total["coop training"]) / options.train_rate
        seconds += total["cocoop testing"] / options.eval_rate
        console.print(f"text side of {options.seeds} seeds: {options.seeds * seconds / 3600:,.0f} hours")


if __name__ == "__main__":
    main()
