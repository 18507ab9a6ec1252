"""The ways mirrors and archives lay the datasets out, and how to bring them to the benchmark's."""

import re
from collections.abc import Iterator
from pathlib import Path

from cocoop.data.benchmark.spec import Benchmark

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def absent(spec: Benchmark, root: Path) -> Iterator[str]:
    """Yield what to do where the image folder is not where it should be."""
    labelled = any((root / file.name).is_file() for file in spec.labels.files)
    if root.name == spec.folder or (labelled and (root / spec.images).is_dir()):
        yield f"this is the dataset's own folder: give the one above, --root {root.resolve().parent}"
    yield from mirrored(spec, root)
    for path in _entries(root):
        renamed = path.name != spec.folder and _plain(path.name) == _plain(spec.folder)
        if renamed and (path / spec.images).is_dir():
            yield f"in {root}: mv {path.name} {spec.folder}"
        if path.suffix.lower() in ARCHIVES and _belongs(path, spec):
            yield f"{path} is an archive: unpack it in {root}"
    for path in _entries(root / spec.folder):
        if path.suffix.lower() in ARCHIVES:
            yield f"{path} is an archive: unpack it there"


def mirrored(spec: Benchmark, root: Path) -> Iterator[str]:
    """Yield what to do about the layouts of known mirrors that are found under the root."""
    for path, todo in spec.mirrors.items():
        if (root / path).exists():
            yield f"{root / path} is there; in {root}: {todo}"


def nested(images: Path, path: str) -> Iterator[str]:
    """Yield what to do where a missing image lies one folder too deep, as in images/images."""
    first, _, rest = path.partition("/")
    for inner, file in ((images / images.name, path), (images / first / first, rest)):
        if file and (inner / file).is_file():
            yield f"the images lie one folder too deep: mv {inner}/* {inner.parent}/"


def _belongs(archive: Path, spec: Benchmark) -> bool:
    stem = _plain(archive.name.split(".")[0])
    return archive.name in spec.source or stem in map(_plain, (spec.folder, spec.name, spec.images))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _plain(name: str) -> str:
    """Return a name without case, spaces, dashes and underscores."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
