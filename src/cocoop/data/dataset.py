"""A dataset: lists of labelled image paths under one root, and the words its prompts use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from cocoop.data.decode import Decode
from cocoop.data.storage import Root
from cocoop.errors import UsageError, unknown

HUB = "hub:"  # what the name of a dataset of the Hub begins with


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
        root: the folder, .zip archive or other `Storage` that holds the items' paths.
        splits: "train", "val" and "test" items, and any further test lists (a shifted domain). Without
            "train" the dataset is for testing only; "val" may be missing.
        note: what a reader of its results must know, if anything.
        decode: how its image files become pixels; None for as the published numbers were made.
        phrases: what some classes are called in prompts, several phrases each, where the data say so.
        warnings: what a person should put right, if anything.
        labels: where images may have several classes or none, those of each by its path; their items have
            the label -1 and no name. Empty where every image has one class.

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
    root: Root
    splits: Mapping[str, tuple[Item, ...]]
    note: str = ""
    decode: Decode | None = None
    warnings: tuple[str, ...] = ()
    phrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names by label, read off the training items as the published protocol does."""
        items = self.splits.get("train", self.splits["test"])
        if self.labels:
            return tuple(sorted({name for item in items for name in self.labels[item.path]}))
        names = {item.label: item.name for item in items}
        return tuple(names[label] for label in sorted(names))

    def names_of(self, item: Item) -> tuple[str, ...]:
        """Return the classes of an image, of which it has one unless there are `labels`."""
        return self.labels[item.path] if self.labels else (item.name,)

    def items(self, split: str) -> tuple[Item, ...]:
        """Return one split. Raises UsageError where the dataset has no such list."""
        if split == "train" and split not in self.splits:
            raise UsageError(f"{self.name} is for testing only; it has no images to train on")
        if split not in self.splits:
            raise unknown(f"split of {self.name}", split, self.splits)
        return self.splits[split]
