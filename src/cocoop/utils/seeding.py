"""Randomness from an argument, for code that only knows torch's global generator."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cocoop.errors import UsageError

CPU = torch.device("cpu")
MOST = 2**63  # torch takes smaller numbers


def checked(seed: int) -> int:
    """Return a seed that torch takes. Raises UsageError for another."""
    if not 0 <= seed < MOST:
        raise UsageError(f"a seed is a number from 0 to {MOST - 1}, not {str(seed)[:40]}")
    return seed


@contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Run a block under torch's own generators, of the CPU and a device, and put the caller's states back.

    Args:
        seed: of the generators.
        device: where else than on the CPU something is drawn.
    """
    others = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(others, device_type=device.type if others else "cuda"):
        # torch.manual_seed would seed accelerators too, and note the traceback for each that may come
        torch.default_generator.manual_seed(checked(seed))
        if others:
            torch.get_device_module(device).manual_seed(seed)
        yield
