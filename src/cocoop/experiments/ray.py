"""The same work on a Ray cluster: a task a training, retried on another node where one is lost."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from cocoop.backbones.clip import load_backbone
from cocoop.errors import CocoopError
from cocoop.experiments.cell import Cell
from cocoop.experiments.run_cell import Setup
from cocoop.experiments.run_cells import by_training, run_cells
from cocoop.experiments.store import Store

LOOK_EVERY = 0.5  # seconds between two looks at what the tasks have done
RETRIES = 3  # of a task whose node or process died

_backbone = lru_cache(maxsize=1)(load_backbone)  # a worker process of Ray runs many tasks


def run_on_ray(
    cells: Sequence[Cell], setup: Setup, address: str | None = None, look: Callable[[], None] = lambda: None
) -> None:
    """Run cells as `run_cells` does, the cells of one training as one task.

    A task asks for `setup.threads` CPUs (1 where it says nothing) and, with the device "cuda", for one GPU.
    All nodes must see the run folder, the feature cache and the data under the same paths. A task that is
    lost more than `RETRIES` times becomes a failure in the run folder.

    Args:
        cells: as for `run_cells`.
        setup: as for `run_cells`.
        address: of the cluster; None for the one that Ray finds, else one on this machine.
        look: called now and then while the tasks run.

    Raises:
        CocoopError: Ray is not installed, or the cluster is not there.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported
    try:
        import ray
    except ModuleNotFoundError:
        raise CocoopError("--workers ray needs Ray: pip install 'cocoop[ray]'") from None
    threads = setup.threads or 1
    setup = replace(setup, threads=threads)
    try:
        ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise CocoopError(f"cannot use the Ray cluster {address or ''}: {error}") from error
    try:
        task = ray.remote(num_cpus=threads, num_gpus=int(setup.device == "cuda"), max_retries=RETRIES)(_work)
        jobs = {task.remote(job, setup): job for job in by_training(cells)}
        waiting = list(jobs)
        while waiting:
            finished, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=LOOK_EVERY)
            for reference in finished:
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    _fail(jobs[reference], Store(setup.folder), error)
            look()
    finally:
        ray.shutdown()


def _work(cells: Sequence[Cell], setup: Setup) -> None:
    run_cells(cells, setup, backbone=_backbone(setup.backbone, setup.device, setup.precision))


def _fail(cells: Sequence[Cell], store: Store, error: Exception) -> None:
    for cell in cells:
        if not store.settled(cell):
            store.claims.fail(cell, error)
