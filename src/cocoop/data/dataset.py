"""A dataset: lists of labelled image paths under one root, and the words its prompts use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from cocoop.errors import UsageError, unknown

HUB = "hub:"  # what the name of a dataset of the Hub begins with
Decode = Callable[[bytes], Image.Image]  # an image file to RGB


class Item(NamedTuple):
    """One labelled image.

    Attributes:
        path: of the image, relative to the dataset's root, with forward slashes.
        label: class index, from 0.
        name: class name as the data spells it (underscores become spaces only in prompts).

    Examples:
        >>> import cocoop
        >>> cocoop.open_dataset("emoji/food").items("train")[0]
        Item(path='food/...', label=0, name='amphora')
    """

    path: str
    label: int
    name: str


@dataclass(frozen=True)
class Dataset:
    """Labelled images with the facts that methods and protocols ask for.

    Attributes:
        name: the registered name.
        template: the zero-shot prompt, with `{}` for the class name.
        root: a folder, or a .zip archive, that the items' paths are relative to.
        splits: "train", "val" and "test" items, and any further test lists (a shifted domain). Without
            "train" the dataset is for testing only; "val" may be missing.
        note: what a reader of its results must know, if anything.
        decode: how its image files become pixels; None for as the published numbers were made.

    Examples:
        >>> import cocoop
        >>> data = cocoop.open_dataset("emoji/food")
        >>> data.template, data.class_names[:3]
        ('a photo of a {}.', ('amphora', 'avocado', 'baby bottle'))
        >>> len(data.items("test"))
        176
    """

    name: str
    template: str
    root: Path
    splits: Mapping[str, tuple[Item, ...]]
    note: str = ""
    decode: Decode | None = None

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names by label, read off the training items as the published protocol does."""
        names = {item.label: item.name for item in self.splits.get("train", self.splits["test"])}
        return tuple(names[label] for label in sorted(names))

    def items(self, split: str) -> tuple[Item, ...]:
        """Return one split. Raises UsageError where the dataset has no such list."""
        if split == "train" and split not in self.splits:
            raise UsageError(f"{self.name} is for testing only; it has no images to train on")
        if split not in self.splits:
            raise unknown(f"split of {self.name}", split, self.splits)
        return self.splits[split]
