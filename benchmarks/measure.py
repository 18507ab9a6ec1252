"""Time and memory, measured so that a noisy machine disturbs both sides alike."""

import gc
import importlib.metadata
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from cocoop.backbones.device import synchronize
from cocoop.text.memory import release_free_memory, resident_memory

Job = Callable[[], object]
LONG = 20.0  # seconds


def alternate(
    jobs: Mapping[str, Job], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Run the jobs in turns, `repeats` times after one warm-up each; return seconds of every run.

    Where all warm-ups are long, warming up is a small part of them: they count. On a machine that others use
    too, `time.process_time` counts what a job itself takes of the processor, here with one thread.
    """
    rounds = [{name: _timed(job, clock) for name, job in jobs.items()} for _ in range(repeats)]
    if min(rounds[0].values()) < LONG:
        rounds = [*rounds[1:], {name: _timed(job, clock) for name, job in jobs.items()}]
    return {name: [seconds[name] for seconds in rounds] for name in jobs}


def _timed(job: Job, clock: Callable[[], float]) -> float:
    start = clock()
    job()
    synchronize()
    return clock() - start


def compare(seconds: Mapping[str, list[float]], floor_ratio: float) -> dict[str, float]:
    """Return medians, their ratio, the extremes, and the share of the floor that the engine reaches.

    Args:
        seconds: of "reference" and "engine".
        floor_ratio: the engine's counted work over the reference's. The floor is the reference's time
            scaled by it: what the engine would take at the reference's rate of arithmetic.
    """
    reference, engine = (statistics.median(seconds[name]) for name in ("reference", "engine"))
    return {
        "reference_s": reference,
        "engine_s": engine,
        "ratio": reference / engine,
        "floor_share": reference * floor_ratio / engine,
        "reference_min_s": min(seconds["reference"]),
        "reference_max_s": max(seconds["reference"]),
        "engine_min_s": min(seconds["engine"]),
        "engine_max_s": max(seconds["engine"]),
        "repeats": len(seconds["engine"]),
    }


def peak_memory_mb(prepare: Callable[..., Job], *arguments: Any) -> float:
    """Peak memory of a job over the loaded model, in MiB, measured in a process of its own.

    `prepare(*arguments)` runs first, in that process, and returns the job. It is the memory of the GPU where
    the job has one in use, else what is resident of the process.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(send, prepare, arguments))
    process.start()
    send.close()
    try:
        peak: float = receive.recv()
    except EOFError:
        raise MemoryError("the measuring process died, most likely for lack of memory") from None
    finally:
        process.join()
    return peak


def _child(send: Any, prepare: Callable[..., Job], arguments: tuple[Any, ...]) -> None:
    job = prepare(*arguments)
    gc.collect()
    release_free_memory()  # what loading left behind would hide as much of the job's use
    reset, peak = (_reset_gpu_peak, _gpu_peak) if torch.cuda.is_initialized() else (reset_peak, peak_memory)
    held = reset()
    job()
    send.send(max(0, peak() - held) / (1 << 20))
    send.close()


def reset_peak() -> int:
    """Return the bytes that this process holds, and let `peak_memory` count from them."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        raise OSError("peak memory is measured through /proc, which this system does not have")
    held = resident_memory()
    clear.write_text("5")  # sets the high-water mark to what is resident now
    return held


def peak_memory() -> int:
    """Return the most bytes that this process has held since the last `reset_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def _reset_gpu_peak() -> int:
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _gpu_peak() -> int:
    return torch.cuda.max_memory_allocated()


def machine() -> str:
    """The machine in words: processor, threads, memory, GPU."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    memory = psutil.virtual_memory().total / (1 << 30)
    capability = torch.backends.cpu.get_cpu_capability()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cpu} ({capability}), {torch.get_num_threads()} threads, {memory:.0f} GiB{gpu}"


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    found = {name: importlib.metadata.version(name) for name in ("cocoop", "torch", "open_clip_torch")}
    return found | ({"cuda": str(torch.version.cuda)} if torch.cuda.is_available() else {})
