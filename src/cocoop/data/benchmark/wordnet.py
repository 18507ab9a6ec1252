"""ImageNet and its variants: one folder of images a class, named by WordNet id or by number."""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from cocoop.data.benchmark.spec import LabelFile, Labels, Splits
from cocoop.data.dataset import Item
from cocoop.data.decode import is_image_name
from cocoop.data.storage import SETTLED
from cocoop.errors import CocoopError
from cocoop.utils.files import (
    checked_json,
    default_cache,
    digest,
    numbered_lines,
    read_checked_json,
    write_text,
)


def class_names_text() -> str:
    """Return `classnames.txt`: ImageNet's WordNet ids, and the names that CLIP is evaluated with."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    wnids = sorted(ImageNetInfo("imagenet-1k").label_names())
    return "".join(f"{wnid} {name}\n" for wnid, name in zip(wnids, IMAGENET_CLASSNAMES, strict=True))


CLASS_NAMES = LabelFile(
    "classnames.txt",
    'its lines are "n01440764 tench", in the order of the WordNet ids; DATASETS.md of '
    "github.com/KaiyangZhou/CoOp links it",
    shared=True,
    made=class_names_text,
)
OWN_SAMPLE = (
    "ImageNet shots are our own sample, drawn from the sorted file names: the published draws depend on "
    "the order of a file system and are in no list"
)
Listing = Mapping[str, list[str]]  # folder name -> sorted image names


def wnid_folders(**splits: str) -> Labels:
    """Labels by the sorted WordNet ids of the folders, their names looked up in `classnames.txt`.

    Args:
        splits: name of a split to its folder under the image folder; "." for the image folder itself.
    """

    def read(folder: Path, images: Path) -> Splits:
        path = CLASS_NAMES.need(folder)
        names = read_class_names(path)
        listings = {split: list_class_images(images / part) for split, part in splits.items()}
        wnids = sorted(set().union(*listings.values()))
        if unnamed := [wnid for wnid in wnids if wnid not in names]:
            raise CocoopError(f"{path} has no line for the folder {unnamed[0]} ({len(unnamed)} lack one)")
        return {
            split: tuple(
                Item(f"{splits[split]}/{wnid}/{file}".removeprefix("./"), label, names[wnid])
                for label, wnid in enumerate(wnids)
                for file in listing.get(wnid, ())
            )
            for split, listing in listings.items()
        }

    return Labels((CLASS_NAMES,), read, OWN_SAMPLE if "train" in splits else "")


def numbered_folders() -> Labels:
    """Labels by folders 0, 1, 2, ...: folder k holds the class of the k-th line of `classnames.txt`."""

    def read(folder: Path, images: Path) -> Splits:
        path = CLASS_NAMES.need(folder)
        names = read_class_names(path)
        if list(names) != sorted(names):
            raise CocoopError(f"{path} is not in the order of the WordNet ids, which number the folders")
        listing = list_class_images(images)
        if stray := sorted(set(listing) - set(map(str, range(len(names))))):
            raise CocoopError(f"{images} holds the folder {stray[0]}, which is no line of {path}")
        return {
            "test": tuple(
                Item(f"{label}/{file}", label, name)
                for label, name in enumerate(names.values())
                for file in listing.get(str(label), ())
            )
        }

    return Labels((CLASS_NAMES,), read)


def read_class_names(path: Path) -> dict[str, str]:
    """Read "wnid name" lines to WordNet id -> name. Raises CocoopError where a line is none."""
    names: dict[str, str] = {}
    for number, line in numbered_lines(path).items():
        wnid, _, name = line.partition(" ")
        if not name or wnid in names:
            problem = f"repeats {wnid}" if wnid in names else f"is not 'n01440764 tench' but {line!r}"
            raise CocoopError(f"{path}, line {number} {problem}")
        names[wnid] = name
    return names


def list_class_images(folder: Path) -> Listing:
    """List the images of every subfolder, sorted.

    ImageNet has 1.28 million; the list is kept in the cache and holds as long as no subfolder's
    modification time changes.

    Raises:
        CocoopError: there is no such folder, or images lie in it directly.
    """
    if not folder.is_dir():
        raise CocoopError(f"there is no folder {folder}")
    parts = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not parts:
        raise CocoopError(f"{folder} has no subfolders; sort its images into one folder a class")
    changed = [part.stat().st_mtime_ns for part in parts]
    state = [(part.name, when) for part, when in zip(parts, changed, strict=True)]
    path = default_cache() / "listings" / f"{digest(str(folder.resolve()))}.json"
    with suppress(OSError, ValueError):  # absent or damaged: listed anew and overwritten
        kept = read_checked_json(_KeptListing, path.read_bytes())
        if kept.state == state:
            return kept.images
    images = {part.name: sorted(filter(_is_listed, (path.name for path in part.iterdir()))) for part in parts}
    if time.time_ns() - max(changed) > SETTLED * 1e9:
        with suppress(OSError):
            write_text(path, checked_json(_KeptListing(state=state, images=images)))
    return images


class _KeptListing(BaseModel):
    state: list[tuple[str, int]]
    images: Listing


def _is_listed(name: str) -> bool:
    return not name.startswith(".") and is_image_name(name)
