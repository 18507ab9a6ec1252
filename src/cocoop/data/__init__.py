"""Labelled images: what a dataset is, how it is split, how its images become tensors."""

from cocoop.data.datasets import DATASETS
from cocoop.data.spec import Dataset, Item

__all__ = ["DATASETS", "Dataset", "Item", "open_dataset"]


def open_dataset(name: str) -> Dataset:
    """Open a registered dataset by name, e.g. "emoji/food".

    Raises:
        UsageError: no dataset has this name; the message holds the nearest ones.
    """
    return DATASETS.get(name)()
