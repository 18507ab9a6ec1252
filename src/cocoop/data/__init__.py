"""Labelled images: what a dataset is, how it is split, how its images become tensors."""

import os
from pathlib import Path

from cocoop.data.dataset import HUB, Dataset, Item
from cocoop.data.datasets import DATASETS
from cocoop.data.decode import open_image
from cocoop.data.own.reading import PLAIN, Reading
from cocoop.data.splits import select, subset_labels
from cocoop.errors import UsageError

__all__ = [
    "DATASETS",
    "Dataset",
    "Item",
    "is_source",
    "open_dataset",
    "open_image",
    "select",
    "subset_labels",
]


def open_dataset(
    name: str,
    root: str | Path | None = None,
    names: str | Path | None = None,
    reading: Reading = PLAIN,
    multilabel: bool = False,
) -> Dataset:
    """Open a dataset: a registered one by name, e.g. "emoji/food", or a person's own by where it is.

    Own data are a folder with a folder for each class or a table in it, a table (.csv, .tsv, .txt, .jsonl,
    .parquet) with the columns path, label and, if wanted, split, or a dataset of the Hub as "hub:NAME" or
    saved to disk. A name that is registered is the registered one; write ./NAME for a folder of that name.

    Args:
        name: registered name, path or "hub:NAME".
        root: the folder that holds the folders of the registered datasets; None for $COCOOP_DATA. The
            embedded datasets need none.
        names: for own data, a file with the class names for what the data call the classes; "auto" reads
            WordNet ids and numbered names.
        reading: for own data, which columns to take, and where the classes are told.
        multilabel: whether images of several classes or none are taken, where own data have such.

    Raises:
        UsageError: there is no such dataset (the message holds the nearest ones), or it needs a root.
        CocoopError: the dataset is not under `root`, or not as it should be.

    Examples:
        >>> import cocoop
        >>> data = cocoop.open_dataset("emoji/food")
        >>> len(data.class_names), {split: len(items) for split, items in data.splits.items()}
        (88, {'train': 176, 'val': 88, 'test': 176, 'mono': 176})
    """
    if name not in DATASETS.names() and is_source(name):
        from cocoop.data.own.source import open_source

        dataset = open_source(name, Path(names) if names else None, reading)
        if dataset.labels and not multilabel:
            raise UsageError(
                f"in {name} images may have several classes or none, and here an image must have one. cocoop "
                "fit, evaluate, features and data check take it, and open_dataset(..., multilabel=True)"
            )
        return dataset
    if reading != Reading():
        raise UsageError(f"{name} is registered; columns and the like are chosen for own data alone")
    if names:
        raise UsageError(f"{name} has its class names; a names file is for own data")
    where = root or os.environ.get("COCOOP_DATA")
    return DATASETS.get(name)(Path(where).expanduser() if where else None)


def is_source(name: str) -> bool:
    """Whether a name means own data: "hub:NAME", or a path, written as one or there."""
    looks = name.startswith((".", "/", "~")) or name.endswith("/") or os.path.isabs(name)
    return name.startswith(HUB) or looks or Path(name).exists()
