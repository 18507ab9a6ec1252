"""Before anything is trained: is every image there that the cells will read?"""

from collections.abc import Sequence
from pathlib import Path

from cocoop.data import open_dataset
from cocoop.data.splits import draw
from cocoop.data.verify import require_images
from cocoop.experiments.cell import Cell


def check_data(cells: Sequence[Cell], root: str | Path | None) -> None:
    """Look for the shots and test images of the cells, so that none is missed hours later.

    Raises:
        UsageError: a dataset is unknown, or for testing only where it would be trained on.
        CocoopError: images are missing or empty; the message lists them.
    """
    splits: dict[str, set[str]] = {}
    draws: dict[str, set[tuple[int, int]]] = {}
    for cell in cells:
        splits.setdefault(cell.testing.dataset, set()).add(cell.testing.split)
        if cell.training.recipe:
            draws.setdefault(cell.training.dataset, set()).add((cell.training.shots, cell.training.seed))
    for name in sorted(splits.keys() | draws):
        dataset = open_dataset(name, root)
        lists = [dataset.items(split) for split in sorted(splits.get(name, ()))]
        if name in draws:
            dataset.items("train")  # refuses what is for testing only
            lists += [draw(dataset.splits, *each)["train"] for each in draws[name]]
        require_images(dataset.root, (item for items in lists for item in items))
