"""One file a dataset; a dataset is a callable from the data root, or None, to a `Dataset`."""

from collections.abc import Callable
from pathlib import Path

from cocoop.data.dataset import Dataset
from cocoop.utils.registry import Registry

DATASETS: Registry[Callable[[Path | None], Dataset]] = Registry("dataset", __name__)
