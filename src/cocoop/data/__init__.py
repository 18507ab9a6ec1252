"""Labelled images: what a dataset is, how it is split, how its images become tensors."""

import os
from pathlib import Path

from cocoop.data.datasets import DATASETS
from cocoop.data.spec import Dataset, Item

__all__ = ["DATASETS", "Dataset", "Item", "open_dataset"]


def open_dataset(name: str, root: str | Path | None = None) -> Dataset:
    """Open a registered dataset by name, e.g. "emoji/food".

    Args:
        name: registered name.
        root: the folder that holds the folders of the datasets; None for $COCOOP_DATA. The embedded
            datasets need none.

    Raises:
        UsageError: no dataset has this name (the message holds the nearest ones), or it needs a root.
        CocoopError: the dataset is not under `root`, or not as it should be.
    """
    where = root or os.environ.get("COCOOP_DATA")
    return DATASETS.get(name)(Path(where).expanduser() if where else None)
