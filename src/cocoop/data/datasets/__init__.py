"""One file a dataset; a dataset is a function without arguments that returns a `Dataset`."""

from collections.abc import Callable

from cocoop.data.spec import Dataset
from cocoop.registry import Registry

DATASETS: Registry[Callable[[], Dataset]] = Registry("dataset", __name__)
