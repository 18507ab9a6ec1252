"""Emoji-styles: emoji by several vendors under their Unicode names, embedded in the package.

Eight groups, each a dataset of its own. Colour drawings are split into train, val and test; "mono"
holds monochrome drawings of the same classes, a shifted domain. See docs/embedded.md.
"""

from functools import partial
from pathlib import Path

from cocoop.data.dataset import Dataset
from cocoop.data.datasets import DATASETS
from cocoop.data.splits import read_split
from cocoop.utils.assets import asset

GROUPS = ("activities", "animals", "food", "objects", "people", "smileys", "symbols", "travel")
TEMPLATE = "a photo of a {}."


def _open(group: str, root: Path | None) -> Dataset:
    splits = read_split(asset(f"emoji-styles/{group}.json"))
    return Dataset(f"emoji/{group}", TEMPLATE, asset("emoji-styles/images.zip"), splits)


for _group in GROUPS:
    DATASETS.register(f"emoji/{_group}")(partial(_open, _group))
