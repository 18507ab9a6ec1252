"""Where a dataset's files are to be had: addresses, sizes and digests as facts, and nothing that runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

COLLECTION = (
    "https://huggingface.co/zhengli97/prompt_learning_dataset/resolve/"
    "ceb3112337fb6e1bf71534e355ca5569b63f19a6/"
)
SPLITS = (
    "https://raw.githubusercontent.com/linzhiqiu/cross_modal_adaptation/"
    "c7e7e68ae4eeadfab98e7886b2d6c9cf48a7ceb5/splits/"
)


@dataclass(frozen=True)
class Remote:
    """A file on the network.

    Attributes:
        url: its address.
        size: in bytes; 0 where it is not known.
        sha256: its digest, or the first digits; empty where it is not known.
        md5: the same, asked for only where `sha256` is not known.
        file: its name, where the address does not end in it.
    """

    url: str
    size: int = 0
    sha256: str = ""
    md5: str = ""
    file: str = ""

    @property
    def name(self) -> str:
        """Its name on disk."""
        return self.file or unquote(urlsplit(self.url).path.rpartition("/")[2])


@dataclass(frozen=True)
class Download:
    """Images in archives, and all places that have them.

    Attributes:
        places: a folder or file, wherever it is in the archives, to its place in the dataset's folder.
        sources: archives that hold all of it, the best first, of which one will do; where several hold
            it together, a tuple of them.
        within: name of an archive in the archive, which may hold the images.
    """

    places: Mapping[str, str]
    sources: tuple[Remote | tuple[Remote, ...], ...]
    within: str = ""

    @property
    def choices(self) -> list[tuple[Remote, ...]]:
        """The sources, each as a tuple of archives."""
        return [source if isinstance(source, tuple) else (source,) for source in self.sources]


@dataclass(frozen=True)
class ByHand:
    """Archives that only a person can get, who has an account and has agreed to terms.

    Attributes:
        how: to get them, in a sentence.
        files: the archives.
        places: what comes of them in the dataset's folder.
        unpack: (archives by name, the folder to unpack into, called with the bytes read) to the places.
    """

    how: str
    files: tuple[Remote, ...]
    places: tuple[str, ...]
    unpack: Callable[[Mapping[str, Path], Path, Callable[[int], None]], None]


def collection(name: str, size: int = 0, sha256: str = "") -> Remote:
    """An archive of a collection of all the datasets but ImageNet on the Hugging Face Hub, at one commit."""
    return Remote(f"{COLLECTION}{name}", size, sha256)


def split_copies(name: str, sha256: str, drive: str) -> tuple[Remote, ...]:
    """A split file: a copy in an MIT-licensed repository, at one commit, and its authors' own."""
    return (Remote(f"{SPLITS}{name}", sha256=sha256), on_drive(drive, name, sha256=sha256))


def on_drive(key: str, file: str, size: int = 0, sha256: str = "") -> Remote:
    """A file on Google Drive, asked for as its own page asks for large ones."""
    url = f"https://drive.usercontent.google.com/download?id={key}&export=download&confirm=t"
    return Remote(url, size, sha256, file=file)
