"""Datasets from the network to the data root: what is missing is got, checked, unpacked and put in place.

Nothing is under its name before it is whole, so whatever ends a call, the next one goes on from there.
"""

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from cocoop.data.benchmark.download import Stopped, Unusable, download, verify
from cocoop.data.benchmark.remote import ByHand, Download, Remote
from cocoop.data.benchmark.spec import Benchmark, LabelFile
from cocoop.data.benchmark.unpack import unpack
from cocoop.data.splits import read_split
from cocoop.errors import CocoopError, in_words
from cocoop.utils.files import write_text

DOWNLOADS = ".cocoop-downloads"  # under the data root
STAGE = ".unpacking"  # in the folder of a dataset
PARALLEL = 4  # files at a time

Watch = Callable[[str, str, int], None]  # dataset, "downloading" or "unpacking", bytes


@dataclass(frozen=True)
class Job:
    """One thing that a dataset lacks: a file of labels, or its images."""

    spec: Benchmark
    what: LabelFile | Download | ByHand

    @property
    def size(self) -> int:
        """Bytes to download, as far as they are known."""
        if isinstance(self.what, Download):
            return sum(remote.size for remote in self.what.choices[0])
        return 0


def lacks(spec: Benchmark, root: Path) -> list[Job]:
    """Return what of a dataset is not under the data root; nothing is looked at more closely."""
    folder = root / spec.folder
    images: list[Download | ByHand] = [*spec.downloads, *([spec.by_hand] if spec.by_hand else [])]
    brought = {place for what in images for place in _places(what)}
    labels = [file for file in spec.labels.files if file.name not in brought and not file.find(folder)]
    wanting = [what for what in images if any(not (folder / place).exists() for place in _places(what))]
    return [Job(spec, what) for what in (*labels, *wanting)]


def need_space(jobs: Sequence[Job], root: Path, archives: Path | None = None) -> tuple[int, int]:
    """Return about how many bytes jobs need on disk, archives and images, and how many are free."""
    there = sum(path.stat().st_size for path in (root / DOWNLOADS).glob("*/*") if path.is_file())
    given = [job.what for job in jobs if archives and isinstance(job.what, ByHand)]
    needed = sum(remote.size for what in given for remote in what.files) + 2 * sum(job.size for job in jobs)
    return max(0, needed - there), shutil.disk_usage(root).free


def fetch(
    jobs: Sequence[Job],
    root: Path,
    *,
    archives: Path | None = None,
    parallel: int = PARALLEL,
    keep: bool = False,
    watch: Watch = lambda name, doing, count: None,
    wait: float = 1.0,
) -> dict[str, list[str]]:
    """Do jobs, several at a time, and return what went wrong with each dataset; the others go on.

    Args:
        jobs: as `lacks` returns them.
        root: the data root.
        archives: a folder with files that are taken from there where it has them.
        parallel: how many at a time.
        keep: leave the archives in the downloads' folder.
        watch: called, from several threads, with what is going on.
        wait: seconds before a second attempt; see `download`.

    Raises:
        CocoopError: another call is at work under this root, or the disk is too small.
    """
    needed, free = need_space(jobs, root, archives)
    if needed > free:
        raise CocoopError(
            f"the disk of {root} has {free / 1e9:.1f} GB free, and about {needed / 1e9:.1f} GB are needed "
            "for the archives and what is in them; get fewer datasets at a time, or give another --root"
        )
    (root / DOWNLOADS).mkdir(exist_ok=True)
    lock = FileLock(root / DOWNLOADS / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise CocoopError(f"another `cocoop data get` is at work under {root}") from None
    stop = threading.Event()
    problems: dict[str, list[str]] = {}
    try:
        with ThreadPoolExecutor(parallel) as pool:
            worker = _Worker(root, archives, keep, watch, stop, wait)
            futures = {pool.submit(worker.do, job): job for job in jobs}
            try:
                for future in as_completed(futures):
                    if error := future.exception():
                        if (words := in_words(error)) is None:
                            raise error
                        problems.setdefault(futures[future].spec.name, []).append(words)
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        lock.release()
    return problems


@dataclass(frozen=True)
class _Worker:
    root: Path
    archives: Path | None
    keep: bool
    watch: Watch
    stop: threading.Event
    wait: float

    def do(self, job: Job) -> None:
        spec, what = job.spec, job.what
        (self.root / spec.folder).mkdir(exist_ok=True)
        if isinstance(what, LabelFile):
            self._labels(spec, what)
        elif isinstance(what, ByHand):
            files = {remote.name: self._given(spec, what, remote) for remote in what.files}
            with self._stage(spec, what.places) as stage:
                what.unpack(files, stage, self._unpacking(spec))
        else:
            self._first(spec, what.choices, lambda choice: self._images(spec, what, choice))

    def _labels(self, spec: Benchmark, file: LabelFile) -> None:
        target = self.root / spec.folder / file.name
        if file.made:
            write_text(target, file.made())
            return

        def get(remotes: tuple[Remote, ...]) -> None:
            path = self._archive(spec, remotes[0])
            try:
                if path.suffix == ".json":
                    read_split(path)
            except CocoopError as error:
                path.unlink()
                raise Unusable(str(error)) from error
            os.replace(path, target)

        self._first(spec, [(remote,) for remote in file.remotes], get)

    def _images(self, spec: Benchmark, what: Download, choice: tuple[Remote, ...]) -> None:
        paths = [self._archive(spec, remote) for remote in choice]
        ours = [path for path in paths if path.parent == self._folder(spec)]
        try:
            with self._stage(spec, _places(what)) as stage:
                for path in paths:
                    unpack(path, what.places, stage, what.within, self._unpacking(spec))
        except Unusable:
            for path in ours:
                path.unlink()
            raise
        for path in () if self.keep else ours:
            path.unlink()

    def _first(
        self,
        spec: Benchmark,
        choices: Sequence[tuple[Remote, ...]],
        get: Callable[[tuple[Remote, ...]], None],
    ) -> None:
        """Try sources until one gives what is wanted."""
        tried = []
        for choice in choices:
            try:
                return get(choice)
            except Unusable as error:
                tried.append(str(error))
        listed = "".join(f"\n  {each}" for each in tried)
        raise CocoopError(f"no source of {spec.name} gives what it should; see {spec.source}. Tried:{listed}")

    def _archive(self, spec: Benchmark, remote: Remote) -> Path:
        """Return where a file is, which may have been got before; else get it."""
        given = self.archives / remote.name if self.archives else None
        if given and given.is_file():
            verify(remote, given)
            return given
        path = self._folder(spec) / remote.name
        if not path.exists():
            download(
                remote, path, lambda count: self.watch(spec.name, "downloading", count), self.stop, self.wait
            )
        return path

    def _given(self, spec: Benchmark, what: ByHand, remote: Remote) -> Path:
        path = (self.archives or self.root / spec.folder) / remote.name
        if not path.is_file():
            names = ", ".join(file.name for file in what.files)
            raise CocoopError(
                f"{spec.name} cannot be downloaded for you. Get {names} "
                f"{what.how}; then: cocoop data get {spec.name} --archives FOLDER-WITH-THEM"
            )
        verify(remote, path)
        return path

    def _folder(self, spec: Benchmark) -> Path:
        return self.root / DOWNLOADS / spec.name

    def _unpacking(self, spec: Benchmark) -> Callable[[int], None]:
        def told(count: int) -> None:
            self.watch(spec.name, "unpacking", count)
            if self.stop.is_set():
                raise Stopped("stopped")

        return told

    def _stage(self, spec: Benchmark, places: Sequence[str]) -> "_Stage":
        return _Stage(self.root / spec.folder, places)


@dataclass(frozen=True)
class _Stage:
    """A folder to unpack into, whose parts are moved to their places once all are there."""

    folder: Path
    places: Sequence[str]

    def __enter__(self) -> Path:
        shutil.rmtree(self._path, ignore_errors=True)  # of a call that was killed
        self._path.mkdir()
        return self._path

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._move()
        finally:
            shutil.rmtree(self._path, ignore_errors=True)

    @property
    def _path(self) -> Path:
        return self.folder / STAGE

    def _move(self) -> None:
        absent = [place for place in self.places if not (self._path / place).exists()]
        if absent:
            raise Unusable(f"the archive for {self.folder} holds no {absent[0]}")
        if hasattr(os, "sync"):
            os.sync()  # what is renamed must be on the disk
        for place in self.places:
            target = self.folder / place
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(self._path / place, target)


def _places(what: Download | ByHand) -> tuple[str, ...]:
    """Return the folders and files that something brings to the dataset's folder."""
    return tuple(dict.fromkeys(what.places.values() if isinstance(what, Download) else what.places))
