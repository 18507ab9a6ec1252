"""Several processes at one run folder: they share the work out by claims, and need no other word."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from cocoop.experiments.cell import Cell
from cocoop.experiments.run_cell import Setup
from cocoop.experiments.run_cells import run_cells

LOOK_EVERY = 0.5  # seconds between two looks at what the workers have done


def run_in_processes(
    cells: Sequence[Cell], setup: Setup, count: int, look: Callable[[], None] = lambda: None
) -> list[int]:
    """Run cells in `count` processes, as `run_cells` does in one, and return their exit codes.

    The processors are shared out unless `setup` gives the threads of a process; sums of floats may differ
    in their last bits between different numbers of threads. With the device "cuda" the workers take the
    GPUs in turn.

    Args:
        cells: as for `run_cells`.
        setup: as for `run_cells`.
        count: processes.
        look: called now and then while they work.
    """
    threads = setup.threads or max(1, (os.cpu_count() or 1) // count)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_work, args=(cells, replace(setup, threads=threads), number))
        for number in range(count)
    ]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            alive = [worker.sentinel for worker in workers if worker.is_alive()]
            multiprocessing.connection.wait(alive, timeout=LOOK_EVERY)
            look()
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    return [worker.exitcode or 0 for worker in workers]


def _work(cells: Sequence[Cell], setup: Setup, number: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if setup.device == "cuda":
        setup = replace(setup, device=f"cuda:{number % torch.cuda.device_count()}")
    try:
        run_cells(cells, setup)
    except OSError as error:
        sys.exit(f"error: worker {number + 1}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # whatever the other threads are doing; what is finished is kept
