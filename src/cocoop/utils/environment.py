"""What a result was made with: versions, commit, machine and memory, for records."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import torch

UNKNOWN = "unknown"


def environment() -> dict[str, str]:
    """Return versions, commit and machine; "unknown" for what cannot be told."""
    packages = ("cocoop", "torch", "torchvision", "open_clip_torch", "numpy", "pillow")
    return {name: _version(name) for name in packages} | {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, threads: {torch.get_num_threads()}",
        "commit": _commit(),
    }


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
        return UNKNOWN


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.strip()


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
