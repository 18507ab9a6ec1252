"""How much memory text features need, and how to cut the work so that it fits a budget."""

import ctypes
import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import psutil
import torch

from cocoop.errors import UsageError
from cocoop.text.attention import BLOCK
from cocoop.text.prompt import Slot
from cocoop.text.tower import TextTower
from cocoop.text.tree import build_stages, in_order


@dataclass(frozen=True)
class Chunking:
    """How the work is cut.

    Attributes:
        images: contexts (images) encoded together.
        classes: classes encoded together.
        recompute: whether activations are recomputed in the backward pass instead of kept.
        limit: bytes that the process may hold when a chunk that is recomputed begins.
    """

    images: int
    classes: int
    recompute: bool
    limit: int = 0


def choose_chunking(
    slots: Sequence[tuple[Slot, ...]],
    tower: TextTower,
    images: int,
    budget: int,
    grad: bool,
    shared_blocks: int = 0,
    changed: bool = False,
) -> Chunking:
    """Choose the largest chunks whose activations stay within `budget` bytes.

    Images are split first: a chunk of all classes shares every token it can. Only where one image alone
    does not fit are the classes split too. Chunks of images take a part of the budget alone: a chunk that
    finds the memory of earlier ones is faster than a larger one that has to get it anew.

    Raises:
        UsageError: one class of one image does not fit; the message says what it needs.
    """
    ordered = [slots[label] for label in in_order(slots, shared_blocks)]

    @cache
    def need(count: int) -> int:  # of the costliest chunk, for one image
        starts = range(0, len(ordered), count)
        parts = (ordered[start : start + count] for start in starts)
        return max(tree_bytes(part, tower, grad, shared_blocks, changed) for part in parts)

    return cut(need, len(ordered), images, budget, grad, tower.token_embedding.device)


def cut(
    need: Callable[[int], int], classes: int, images: int, budget: int, grad: bool, device: torch.device
) -> Chunking:
    """Choose the largest chunks, given the bytes that the costliest of so many classes needs for one image.

    Raises:
        UsageError: one class of one image does not fit; the message says what it needs.
    """
    if images * need(classes) <= budget:
        return Chunking(images, classes, recompute=False)
    if need(classes) <= budget:
        images = max(1, budget // (need(classes) * CHUNKS_IN_BUDGET))
    else:
        images, classes = 1, _most(classes, need, budget)
    limit = _limit(budget, images * need(classes), device) if grad else 0
    return Chunking(images, classes, recompute=grad, limit=limit)


def _most(classes: int, need: Callable[[int], int], budget: int) -> int:
    """Return about the most classes whose need is within the budget, which that of all is not."""
    if (least := need(1)) > budget:
        raise UsageError(f"a memory budget of {budget} bytes is too small: one class needs {least}")
    low, high = 1, classes  # the one fits, the other does not
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        low, high = (middle, high) if need(middle) <= budget else (low, middle)
    return low


def tree_bytes(
    slots: Sequence[tuple[Slot, ...]],
    tower: TextTower,
    grad: bool,
    shared_blocks: int = 0,
    changed: bool = False,
) -> int:
    """Bytes of activations of one image: kept over all blocks for a backward pass, else of one block.

    In a tower that a method changes no node is constant.
    """
    kept = working = 0
    for tree, blocks in build_stages(slots, len(tower.blocks), shared_blocks):
        varying = tree.nodes if changed else tree.varying
        keys = tree.nodes + varying // BLOCK * int(tree.depth.max())  # gathered block by block
        residual = RESIDUAL_PER_NODE * varying * tower.token_embedding.element_size()
        cost = (KEPT_PER_NODE * varying + KEPT_PER_KEY * keys) * tower.dtype.itemsize
        kept += len(blocks) * (residual + cost)
        cost = (WORKING_PER_NODE * varying + WORKING_PER_KEY * keys) * tower.dtype.itemsize
        working = max(working, residual + cost)
    used = (kept * grad + working) * tower.width
    return int(used * held_per_used(tower.token_embedding.device))


def held_per_used(device: torch.device) -> float:
    """What the allocator holds for every byte in use, by measurement; blocks of unequal size leave gaps."""
    return 1.25 if device.type == "cuda" else 2.0  # torch's own allocator, the C library's


# In units of one vector of the tower's width. Kept for the backward pass: of the residual stream the input
# of both layer norms; queries, attention's output, and the MLP's hidden layer; of every gathered key, itself
# and its value. At work within one block beyond that: the gradients of all these.
RESIDUAL_PER_NODE = 2
KEPT_PER_NODE = 6
KEPT_PER_KEY = 2
WORKING_PER_NODE = 12
WORKING_PER_KEY = 4
CHUNKS_IN_BUDGET = 4  # of images: the memory of earlier ones stays at hand


def available_memory(device: torch.device) -> int:
    """Bytes free on the device, or on the machine for the CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    limit = os.environ.get("COCOOP_MEMORY")  # for containers whose limit the system does not show
    return int(limit) if limit else int(psutil.virtual_memory().available)


def _limit(budget: int, chunk: int, device: torch.device) -> int:
    """Return what the process may hold when a chunk begins: its needs so far and what the chunk leaves."""
    gc.collect()
    release_free_memory()
    return resident_memory() + int(budget - chunk / held_per_used(device))


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
