"""Randomness from an argument, for code that only knows torch's global generator."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cocoop.errors import UsageError

MOST = 2**63  # torch takes smaller numbers


def checked(seed: int) -> int:
    """Return a seed that torch takes. Raises UsageError for another."""
    if not 0 <= seed < MOST:
        raise UsageError(f"a seed is a number from 0 to {MOST - 1}, not {str(seed)[:40]}")
    return seed


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under torch's CPU generator seeded with `seed`, and put the caller's state back."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed accelerators too, and note the traceback for each that may come
        torch.default_generator.manual_seed(checked(seed))
        yield
