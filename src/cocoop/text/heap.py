"""What the process holds of the machine's memory, in use or freed."""

import ctypes
from functools import cache

import psutil


def resident_memory() -> int:
    """Bytes that the process holds."""
    return int(psutil.Process().memory_info().rss)


def release_free_memory(limit: int = 0) -> None:
    """Ask the C library to hand freed memory back, where the process holds more than `limit` bytes.

    Chunks of unequal size fragment what is freed, so that it grows. But to get all of it anew for
    every chunk takes time.
    """
    libc = _glibc()
    if libc is not None and resident_memory() > limit:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc_trim  # noqa: B018  (an AttributeError elsewhere than in glibc)
    except (OSError, AttributeError):
        return None
    return libc
