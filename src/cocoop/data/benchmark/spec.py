"""A benchmark dataset as facts: where it lies under the data root, who labels it, what it must hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cocoop.data.benchmark.remote import ByHand, Download, Remote, split_copies
from cocoop.data.dataset import Dataset, Item
from cocoop.data.splits import check_labels, read_split
from cocoop.errors import CocoopError, UsageError

Splits = Mapping[str, tuple[Item, ...]]

SPLIT_FILES = "DATASETS.md of github.com/KaiyangZhou/CoOp links it"
CHECK = "cocoop data check {} --root {}"
GET = "cocoop data get {} --root {}"


@dataclass(frozen=True)
class LabelFile:
    """A file that says which image is what.

    Attributes:
        name: in the folder of the dataset.
        source: where to get it.
        sha256: first digits of the digest of the benchmark's file; empty where it is not known.
        shared: it may lie in the folder of ImageNet too.
        remotes: addresses of it, the best first.
        made: its content, where nothing needs to be downloaded.
    """

    name: str
    source: str
    sha256: str = ""
    shared: bool = False
    remotes: tuple[Remote, ...] = ()
    made: Callable[[], str] | None = None

    def find(self, folder: Path) -> Path | None:
        """Return where the file is, or None."""
        places = [folder, folder.parent / "imagenet"] if self.shared else [folder]
        return next((place / self.name for place in places if (place / self.name).is_file()), None)

    def need(self, folder: Path) -> Path:
        """Return where the file is. Raises CocoopError, with where to get it, where it is missing."""
        path = self.find(folder)
        if path is None:
            raise CocoopError(
                f"{folder / self.name} is missing; {self.source}. The benchmark's labels and split are "
                "fixed, so none are made up here."
            )
        return path


@dataclass(frozen=True)
class Labels:
    """How the images of a dataset are labelled and split.

    Attributes:
        files: what `read` needs beside the images.
        read: (folder of the dataset, folder of its images) to splits.
        note: what a reader of results must know.
    """

    files: tuple[LabelFile, ...]
    read: Callable[[Path, Path], Splits]
    note: str = ""


@dataclass(frozen=True)
class Benchmark:
    """One of the benchmark's datasets; calling it with the data root opens it.

    Attributes:
        name: registered name.
        folder: of the dataset, under the data root.
        images: folder of the images, under `folder`; "." for `folder` itself.
        labels: who says which image is what.
        template: the zero-shot prompt, with `{}` for the class name.
        classes: how many there are.
        counts: images of every split.
        source: where to get the images.
        first_new: name of the first class of the new half, which shows that labels are in their order.
        class_of: image path to class name, where the path says it.
        mirrors: path under the data root to what to do, for the ways other places lay the data out.
        terms: its licence, as far as that is known; what its source says holds.
        downloads: the images.
        by_hand: archives instead that only a person can get.
    """

    name: str
    folder: str
    images: str
    labels: Labels
    template: str
    classes: int
    counts: Mapping[str, int]
    source: str
    first_new: str = ""
    class_of: Callable[[str], str] | None = None
    mirrors: Mapping[str, str] = field(default_factory=dict)
    terms: str = ""
    downloads: tuple[Download, ...] = ()
    by_hand: ByHand | None = None

    def image_folder(self, root: Path) -> Path:
        """Where the images are, or should be."""
        return root / self.folder / self.images

    def __call__(self, root: Path | None) -> Dataset:
        """Open the dataset under the data root.

        Raises:
            UsageError: there is no root, or it is no folder.
            CocoopError: folders or label files are missing, or labels and names do not fit.
        """
        root = self.check_root(root)
        images = self.image_folder(root)
        if not images.is_dir():
            raise CocoopError(
                f"{self.name}: there is no folder {images}; `{CHECK.format(self.name, root)}` says what "
                "is there and what to do"
            )
        splits = self.labels.read(root / self.folder, images)
        check_labels(splits, root / self.folder)
        return Dataset(self.name, self.template, images, splits, self.labels.note)

    def check_root(self, root: Path | None) -> Path:
        """Return the data root. Raises UsageError where it is missing or no folder."""
        if root is None:
            raise UsageError(
                f"{self.name} is not embedded: give --root DIR (or $COCOOP_DATA), the folder that holds "
                f"{self.folder}/"
            )
        if not root.is_dir():
            what = "is a file; unpack archives first" if root.exists() else "does not exist"
            raise UsageError(f"the data root {root} {what}; give --root a folder that holds {self.folder}/")
        return root


def split_file(name: str, sha256: str = "", *, drive: str = "") -> Labels:
    """Labels in a split file of the CoOp benchmark, {"train": [[path, label, name], ...], ...}.

    Args:
        name: of the file.
        sha256: first digits of its digest, where they are known.
        drive: what its authors' copy is called on Google Drive; without it, no address is known.
    """
    file = LabelFile(name, SPLIT_FILES, sha256, remotes=split_copies(name, sha256, drive) if drive else ())
    return Labels((file,), lambda folder, images: read_split(file.need(folder)))
