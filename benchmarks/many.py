"""Prediction by the million on a small scale: drawings in shards, two workers, one killed in the middle.

    python -m benchmarks.many --images 100000

The drawings of the embedded data are written into webdataset shards, again and again under new names. One
process answers some of the shards; then workers of Ray answer all, and one is killed when a third is done.
"""

import os
import signal
import tarfile
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import psutil
import pyarrow.parquet as pq
import torch
import typer

from benchmarks.measure import machine, versions
from cocoop import PromptClassifier
from cocoop.data import open_dataset, open_image
from cocoop.data.shards import find_shards
from cocoop.data.storage import open_storage
from cocoop.estimator.many import Job, run_here
from cocoop.estimator.ray import run_on_ray

GROUP = "emoji/activities"


def write_shards(folder: Path, images: int, size: int) -> None:
    """Write `images` drawings into shards of `size`, those of a group over and over."""
    data = open_dataset(GROUP)
    storage, items = open_storage(data.root), [item for split in data.splits.values() for item in split]
    drawings = [(Path(item.path).suffix, storage.read(item.path)) for item in items]
    folder.mkdir(parents=True)
    for start in range(0, images, size):
        with tarfile.open(folder / f"{start // size:05d}.tar", "w") as archive:
            for index in range(start, min(start + size, images)):
                suffix, drawing = drawings[index % len(drawings)]
                info = tarfile.TarInfo(f"{index:09d}{suffix}")
                info.size = len(drawing)
                with tempfile.TemporaryFile() as file:
                    file.write(drawing)
                    file.seek(0)
                    archive.addfile(info, file)


def bench_many(folder: Path, method: str, images: int, size: int, workers: int, alone: int) -> dict[str, Any]:
    """Return images a second of one process and of workers, and what became of the images.

    Args:
        folder: for everything that is written.
        method: of the model.
        images: drawings in all.
        size: of a shard.
        workers: of Ray; one is killed when a third of the shards is done.
        alone: shards that one process answers.
    """
    data = open_dataset(GROUP)
    items = data.items("train")
    drawings = [open_image(data.root, item.path) for item in items]
    PromptClassifier(method, "tiny-clip", epochs=1).fit(drawings, [item.name for item in items]).save(
        folder / "model"
    )
    write_shards(folder / "shards", images, size)
    torch.set_num_threads(1)  # as the workers have
    shards, job, seen = find_shards([str(folder / "shards")]), Job(folder / "model", device="cpu"), [0]
    run_here(job, shards[:1], folder / "first")  # loads the model
    start, processors = time.perf_counter(), time.process_time()
    run_here(job, shards[:alone], folder / "alone", lambda images, errors: seen.append(images))
    one, used = sum(seen) / (time.perf_counter() - start), time.process_time() - processors
    killed: list[int] = []
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.05):
            if len(list((folder / "together").glob("part-*"))) * 3 >= len(shards):
                at_work = [each for each in psutil.process_iter(["cmdline"]) if _is_worker(each)]
                if at_work:
                    killed.append(at_work[0].pid)
                    os.kill(at_work[0].pid, signal.SIGKILL)
                    return

    killer = threading.Thread(target=kill)
    killer.start()
    start = time.perf_counter()
    run_on_ray(job, shards, folder / "together", workers)
    seconds = time.perf_counter() - start
    stop.set()
    killer.join()
    files = sorted((folder / "together").glob("part-*.parquet"))
    answers = Counter(
        path for file in files for path in pq.read_table(file, columns=["path"])["path"].to_pylist()
    )
    return {
        "images": images,
        "answered once": sum(count == 1 for count in answers.values()),
        "answered more often": sum(count > 1 for count in answers.values()),
        "workers killed": len(killed),
        "images a second, one process": one,
        "milliseconds of a processor for an image": 1000 * used / sum(seen),
        f"images a second, {workers} workers": images / seconds,
        "seconds": seconds,
    }


def _is_worker(process: psutil.Process) -> bool:
    """Whether a process is one of ours that Ray runs with the model."""
    mine = os.getpid() in [parent.pid for parent in process.parents()]
    return mine and "MapWorker" in " ".join(process.info["cmdline"] or [])


def main(
    method: Annotated[str, typer.Option(help="Of the model, trained for one epoch.")] = "coop",
    images: Annotated[int, typer.Option(min=1, help="Drawings in all.")] = 100_000,
    size: Annotated[int, typer.Option(min=1, help="Drawings a shard.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Workers of Ray.")] = 2,
    alone: Annotated[int, typer.Option(min=1, help="Shards that one process answers.")] = 2,
) -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        for name, value in bench_many(Path(folder), method, images, size, workers, alone).items():
            print(f"{name}: {value:,.1f}" if isinstance(value, float) else f"{name}: {value:,}")
    print(f"{machine()}; {versions()}")


if __name__ == "__main__":
    typer.run(main)
