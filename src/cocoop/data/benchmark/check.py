"""What is there of a dataset, what is missing, and what to do next."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from cocoop.data import open_dataset
from cocoop.data.benchmark.layouts import absent, mirrored, nested
from cocoop.data.benchmark.spec import GET, Benchmark, LabelFile
from cocoop.data.benchmark.wordnet import CLASS_NAMES, read_class_names
from cocoop.data.dataset import Dataset, Item
from cocoop.data.datasets import DATASETS
from cocoop.data.own.duplicates import alike_warnings, duplicate_warnings
from cocoop.data.own.names import name_warnings
from cocoop.data.own.reading import PLAIN, Reading
from cocoop.data.splits import subset_labels
from cocoop.data.verify import Fault, examine
from cocoop.errors import CocoopError
from cocoop.utils.files import file_digest

Level = Literal["ok", "warning", "problem"]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: a problem makes the dataset unusable, a warning makes its results hard to compare.
        text: what was found.
        todo: what to do about it.
    """

    level: Level
    text: str
    todo: str = ""


@dataclass(frozen=True)
class Check:
    """All findings on one dataset.

    Attributes:
        name: of the dataset.
        place: where it was looked for.
        findings: in the order they were made.
        counts: images of every split, where it could be opened.
        faults: all images that cannot be used.
    """

    name: str
    place: str
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    faults: tuple[Fault, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether runs may use the dataset."""
        return all(finding.level != "problem" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        faults = [fault._asdict() for fault in self.faults]
        return asdict(self) | {"counts": dict(self.counts), "faults": faults, "usable": self.usable}


def check(
    name: str,
    root: Path | None = None,
    read: bool = False,
    progress: Progress = lambda done: None,
    names: Path | None = None,
    reading: Reading = PLAIN,
) -> Check:
    """Check a registered dataset, or the path of one's own.

    Args:
        name: anything that `open_dataset` takes.
        root: the data root.
        read: decode every image too, which takes a while; else only look at files and sizes.
        progress: called with the number of images just looked at.
        names: for own data, a file with the class names, or "auto".
        reading: for own data, how they are to be read.

    Raises:
        UsageError: no dataset has this name, or the root is missing.
    """
    known = DATASETS.get(name) if name in DATASETS.names() else None
    spec = known if isinstance(known, Benchmark) else None
    place = str(spec.check_root(root) / spec.folder) if spec else name
    findings = list(_layout(spec, spec.check_root(root))) if spec else []
    if any(finding.level == "problem" for finding in findings):
        return Check(name, place, tuple(findings), {})
    try:
        dataset = open_dataset(name, root, names, reading, multilabel=True)
    except CocoopError as error:
        if spec is None and error.exit_code == 2:
            raise
        return Check(name, place, (*findings, Finding("problem", str(error))), {})
    findings += _compare(spec, dataset) if spec else [Finding("ok", _summary(dataset))]
    own = known is None
    examined = list(examine(dataset.root, _items(dataset), read, progress, dataset.decode, own))
    faults = [Fault(each.path, each.problem) for each in examined if each.problem]
    todo = list(_remedies(spec, root, faults[0].path)) if spec and root and faults else []
    findings.append(_images(len(examined), faults, read, todo))
    contents = {each.path: each.content for each in examined if each.content}
    findings += _overlaps(dataset, {} if own else contents)
    if own:
        findings += _own(
            dataset, contents, {each.path: each.thumbnail for each in examined if each.thumbnail}
        )
    if dataset.note:
        findings.append(Finding("ok", dataset.note))
    counts = {split: len(items) for split, items in dataset.splits.items()}
    return Check(name, place, tuple(findings), counts, tuple(faults))


def _own(dataset: Dataset, contents: Mapping[str, str], thumbnails: Mapping[str, bytes]) -> Iterator[Finding]:
    """Yield what a person should put right in own data."""
    for text in (*dataset.warnings, *name_warnings(dataset.class_names), *duplicate_warnings(dataset)):
        yield Finding("warning", text)
    for text in alike_warnings(dataset, thumbnails, contents):
        yield Finding("warning", text, "keep one of each two, or put both into one list")


def _layout(spec: Benchmark, root: Path) -> Iterator[Finding]:
    """Look for the folders and the label files."""
    images = spec.image_folder(root)
    if images.is_dir():
        yield Finding("ok", f"the images are in {images}")
    else:
        todo = _steps(
            [*absent(spec, root), f"get the images: {GET.format(spec.name, root)}, or {spec.source}"]
        )
        yield Finding("problem", f"there is no folder {images}", todo)
    for file in spec.labels.files:
        yield _label_file(file, root / spec.folder, root)
        if file is CLASS_NAMES and (path := file.find(root / spec.folder)):
            yield from _imagenet_names(path)


def _label_file(file: LabelFile, folder: Path, root: Path) -> Finding:
    path = file.find(folder)
    if path is None:
        near = (place for pattern in ("", "*/", "*/*/") for place in root.glob(f"{pattern}{file.name}"))
        copies = [f"cp {place} {folder / file.name}" for place in near]
        return Finding(
            "problem", f"{folder / file.name} is missing", _steps([*copies[:1], f"get it: {file.source}"])
        )
    sha256 = file_digest(path)
    text = f"{path.name}: SHA-256 {sha256[:8]}"
    if not file.sha256:
        return Finding("ok", f"{text} (that of the benchmark's file is not known here)")
    if sha256.startswith(file.sha256):
        return Finding("ok", f"{text}, the benchmark's file")
    text = f"{text}, the benchmark's file has {file.sha256}: results may not compare with published ones"
    return Finding("warning", text, f"get it: {file.source}")


def _imagenet_names(path: Path) -> Iterator[Finding]:
    """Compare ImageNet's names with those that CLIP is evaluated with; other lists give other accuracies."""
    try:
        names = list(read_class_names(path).values())
    except CocoopError as error:
        yield Finding("problem", str(error))
        return
    different = [pair for pair in zip(names, IMAGENET_CLASSNAMES, strict=False) if pair[0] != pair[1]]
    if len(names) == len(IMAGENET_CLASSNAMES) and different:
        text = f"{len(different)} of {len(names):,} names are not those CLIP is evaluated with, the first "
        name, usual = different[0]
        yield Finding("warning", f"{text}{name!r} for {usual!r}: accuracies depend on names")


def _compare(spec: Benchmark, dataset: Dataset) -> Iterator[Finding]:
    """Hold an opened dataset against its facts."""
    names = dataset.class_names
    same = len(names) == spec.classes
    yield Finding("ok" if same else "problem", _count("classes", len(names), spec.classes))
    for split, expected in spec.counts.items():
        count = len(dataset.splits.get(split, ()))
        yield Finding("ok" if count == expected else "problem", _count(f"{split} images", count, expected))
    if spec.first_new:
        first = names[subset_labels(range(len(names)), "new")[0]] if len(names) > 1 else ""
        text = f"the new half starts with {first!r}"
        wrong = "" if first == spec.first_new else f", the benchmark's with {spec.first_new!r}"
        yield Finding("warning" if wrong else "ok", text + wrong)
    if spec.class_of:
        renamed = [item for item in _items(dataset) if spec.class_of(item.path) != item.name]
        if renamed:
            text = f"{len(renamed)} images have other class names than the benchmark's: {renamed[0].path} is "
            yield Finding("warning", f"{text}{renamed[0].name!r}, not {spec.class_of(renamed[0].path)!r}")


def _remedies(spec: Benchmark, root: Path, missing: str) -> Iterator[str]:
    """Yield what to do about images that are missing or damaged."""
    yield from nested(spec.image_folder(root), missing)
    yield from mirrored(spec, root)
    yield f"get them again: {spec.source}"


def _images(total: int, faults: list[Fault], read: bool, todo: list[str]) -> Finding:
    if not faults:
        how = "can be read" if read else "are there, none is empty (read them all with --read)"
        return Finding("ok", f"all {total:,} images {how}")
    kinds = Counter(fault.problem.split(" ")[0] for fault in faults)
    what = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    return Finding("problem", f"{len(faults):,} of {total:,} images cannot be used: {what}", _steps(todo))


def _overlaps(dataset: Dataset, contents: Mapping[str, str]) -> Iterator[Finding]:
    """Look for images that are in two lists, by path and, where files were read, by their digests."""
    lists = {split: {item.path: None for item in items} for split, items in dataset.splits.items()}
    for one, other in combinations(lists, 2):
        if shared := [path for path in lists[other] if path in lists[one]]:
            text = f"images that are both in {one} and in {other}: {len(shared):,}, the first {shared[0]}"
            yield Finding("warning", text, "give every image to one list")
        originals = {contents[path]: path for path in lists[one] if path in contents}
        apart = [path for path in lists[other] if path in contents and path not in lists[one]]
        if copies := [path for path in apart if contents[path] in originals]:
            first = f"{copies[0]}, of {originals[contents[copies[0]]]}"
            text = f"images of {other} that are copies of images of {one}: {len(copies):,}, the first {first}"
            yield Finding("warning", text, "remove one of each two")


def _steps(todo: list[str]) -> str:
    """Return the first thing to do, and the next where there is one."""
    return "; or: ".join(todo[:2])


def _summary(dataset: Dataset) -> str:
    counts = ", ".join(f"{split} {len(items):,}" for split, items in dataset.splits.items())
    several = ""
    if dataset.labels:
        sizes = Counter(len(names) for names in dataset.labels.values())
        each = ", ".join(f"{count:,} of {size or 'none'}" for size, count in sorted(sizes.items()))
        several = f", which may have several classes: {each}"
    return f"{len(dataset.class_names)} classes; images: {counts}{several}"


def _count(what: str, count: int, expected: int) -> str:
    return f"{count:,} {what}" + ("" if count == expected else f", the benchmark has {expected:,}")


def _items(dataset: Dataset) -> list[Item]:
    return [item for items in dataset.splits.values() for item in items]
