"""The same image twice: in two classes, or among those to learn from and those to test on."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cocoop.data.dataset import Dataset, Item
from cocoop.data.storage import UNREADABLE, open_storage
from cocoop.data.verify import THUMBNAIL
from cocoop.utils.files import data_digest

ALIKE = 4.0  # of 255: root mean square difference of thumbnails of one picture, saved anew
BLOCK = 512  # thumbnails that are compared with the others at a time


def duplicate_warnings(dataset: Dataset) -> list[str]:
    """Say which images of a dataset are the same files; only files of one size are read."""
    splits = {item.path: split for split, items in dataset.splits.items() for item in items}
    items = {item.path: item for items in dataset.splits.values() for item in items}
    pairs = [(items[one], items[other]) for one, other in identical(dataset, list(items))]
    return list(_said(pairs, splits, "the same file", dataset))


def alike_warnings(
    dataset: Dataset, thumbnails: Mapping[str, bytes], contents: Mapping[str, str]
) -> list[str]:
    """Say which images of a dataset look the same without being the same files.

    Args:
        dataset: what they are of.
        thumbnails: by path, as `examine` gives them.
        contents: digests of the files by path.
    """
    splits = {item.path: split for split, items in dataset.splits.items() for item in items}
    items = {item.path: item for items in dataset.splits.values() for item in items}
    paths = [path for path in thumbnails if path in items]
    pairs = [
        (items[one], items[other])
        for one, other in alike(paths, [thumbnails[path] for path in paths])
        if contents.get(one) != contents.get(other)
    ]
    return list(_said(pairs, splits, "nearly the same picture", dataset))


def identical(dataset: Dataset, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of files of one content: the first of all such, and each of the others."""
    storage = open_storage(dataset.root)
    sizes: dict[int, list[str]] = defaultdict(list)
    for path in sorted(paths):
        try:
            sizes[storage.size(path)].append(path)
        except UNREADABLE:
            continue  # named where it is read
    for group in sizes.values():
        first: dict[str, str] = {}
        for path in group if len(group) > 1 else ():
            try:
                content = data_digest(storage.read(path))
            except UNREADABLE:
                continue
            if (original := first.setdefault(content, path)) != path:
                yield original, path


def alike(paths: Sequence[str], thumbnails: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    """Yield pairs of images whose thumbnails differ by less than `ALIKE`.

    The root mean square difference of two is no less than that of their means, so that only those of nearly
    the same mean are compared.
    """
    if not paths:
        return
    pixels = np.stack([np.frombuffer(each, np.uint8) for each in thumbnails]).astype(np.float32)
    means = pixels.mean(1)
    order = np.argsort(means, kind="stable")
    pixels, means = pixels[order], means[order]
    limit = ALIKE**2 * THUMBNAIL * THUMBNAIL * 3
    lengths = (pixels**2).sum(1)
    for start in range(0, len(order), BLOCK):
        some = slice(start, start + BLOCK)
        end = int(np.searchsorted(means, means[some][-1] + ALIKE, side="right"))
        others = slice(start, end)
        distances = lengths[some, None] + lengths[others] - 2 * pixels[some] @ pixels[others].T
        for one, other in np.argwhere(distances < limit):
            if one < other:
                yield paths[order[start + one]], paths[order[start + other]]


def _said(
    pairs: Sequence[tuple[Item, Item]], splits: Mapping[str, str], what: str, dataset: Dataset
) -> Iterator[str]:
    """Say how many pairs are in two classes, and how many are in two splits."""
    names = dataset.names_of
    classes = [(one, other) for one, other in pairs if names(one) != names(other)]
    across = [(one, other) for one, other in pairs if splits[one.path] != splits[other.path]]
    for found, where in ((classes, "in two classes"), (across, "in two splits, so that tests look too good")):
        if found:
            one, other = found[0]
            yield (
                f"{len(found):,} pair(s) of images are {what} {where}: {one.path} "
                f"({', '.join(names(one))}, {splits[one.path]}) and {other.path} ({', '.join(names(other))}, "
                f"{splits[other.path]})"
            )
