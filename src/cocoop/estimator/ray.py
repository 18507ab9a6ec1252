"""Answers by the million on a Ray cluster: Ray Data hands the pieces to workers that hold the model."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cocoop.data.shards import Shard
from cocoop.errors import CocoopError, UsageError
from cocoop.estimator.many import Job, attempt, gather, prepare

PIECES_A_TASK = 4  # at most: those of a lost worker that are not written are worked at again


def run_on_ray(
    job: Job,
    shards: Sequence[Shard],
    out: Path,
    workers: int | None = None,
    address: str | None = None,
    done: Callable[[int, int], None] = lambda images, errors: None,
) -> dict[str, str]:
    """Answer what is missing, as `run_here` does; return why pieces could not be read, by their first URL.

    A worker has the model once, one CPU, and with the device "cuda" one GPU. All nodes must see the model and
    `out` under the same paths. A worker that is lost is replaced, and its piece is worked at again.

    Args:
        job: what is asked of every image.
        shards: pieces of the source.
        out: the folder of the answers.
        workers: how many; None for as many as the cluster has CPUs, or GPUs, for.
        address: of the cluster; None for the one that Ray finds, else one on this machine.
        done: called with the images and the errors of every piece.

    Raises:
        UsageError: the folder is for something else, or the source has changed since.
        CocoopError: Ray is not installed, or the cluster is not there.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported
    try:
        import ray
    except ModuleNotFoundError:
        raise CocoopError("--engine ray needs Ray: pip install 'cocoop[ray]'") from None
    missing = prepare(out, job, shards)
    if not missing:
        return {}
    gpus = int(job.device == "cuda")
    try:
        ray.init(
            address=address,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise CocoopError(f"cannot use the Ray cluster {address or ''}: {error}") from error
    try:
        there = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0))
        if not there:
            raise UsageError(f"the Ray cluster has no {'GPUs' if gpus else 'CPUs'} to work with")
        return gather(_results(job, shards, out, missing, min(workers or there, there), gpus), shards, done)
    finally:
        ray.shutdown()


def _results(
    job: Job, shards: Sequence[Shard], out: Path, missing: Sequence[int], workers: int, gpus: int
) -> Iterator[tuple[int, int, int, str]]:
    import ray

    kind: Any = Worker
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    tasks = max(workers, -(-len(missing) // PIECES_A_TASK))
    pieces = [
        {"index": index, "urls": list(shards[index].urls), "stamp": list(shards[index].stamp)}
        for index in missing
    ]
    answered = ray.data.from_items(pieces, override_num_blocks=min(tasks, len(pieces))).map(
        kind,
        fn_constructor_args=(job, out),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
        num_cpus=1,
        num_gpus=gpus,
    )  # a lost worker is started again, and what it was at, as often as it takes: Ray Data's default
    for row in answered.iter_rows():
        yield row["index"], row["images"], row["errors"], row["problem"]


class Worker:
    """An actor of Ray Data: it loads the model once, and answers pieces."""

    def __init__(self, job: Job, out: Path) -> None:
        import torch

        torch.set_num_threads(1)
        self._job, self._out = job, out

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Answer one piece."""
        shard = Shard(tuple(row["urls"]), tuple(row["stamp"]))
        index, images, errors, problem = attempt(self._job, self._out, row["index"], shard)
        return {"index": index, "images": images, "errors": errors, "problem": problem}
