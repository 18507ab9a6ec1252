"""Where the frozen towers compute, and in how many bits; what is learned stays in fp32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import torch

from cocoop.backbones.precision import Precision
from cocoop.errors import UsageError, unknown

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# of towers in which a method learns: nothing there keeps gradients within the range of fp16
LEARNED = {"bf16": torch.bfloat16, "fp16": torch.bfloat16}
AUTO = "auto"
NARROW = 256  # text width below which a second thread waits more than it works
DEVICES = (AUTO, "cpu", "cuda", "mps")


def choose_device(name: str = AUTO) -> torch.device:
    """Return the device called `name`; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        UsageError: no such device, or this machine has none.
    """
    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    kind = name.partition(":")[0]
    if kind.lower() in ("gpu", "rocm", "nvidia", "metal"):
        raise UsageError(f"unknown device {name!r}. A GPU is called 'cuda' (also AMD's) or, on a Mac, 'mps'.")
    if kind not in DEVICES:
        raise unknown("device", name, DEVICES)
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if not present[kind]:
        raise UsageError(f"this machine, or this build of torch, has no device {name!r}; use --device auto")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> Precision:
    """Return the precision called `name`; "auto" is fp16 on CUDA, as in the released code, else fp32.

    Raises:
        UsageError: no such precision, or the device does not have it.
    """
    if name == AUTO:
        return "fp16" if device.type == "cuda" else "fp32"
    for known in get_args(Precision):
        if name == known:
            if known == "tf32" and device.type != "cuda":
                raise UsageError(f"tf32 is a mode of CUDA devices, not of {device.type}; use fp32 or bf16")
            return known
    raise unknown("precision", name, [AUTO, *get_args(Precision)])


def synchronize() -> None:
    """Wait for what an accelerator still computes; its calls return before it has."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def allow_tf32(precision: Precision) -> None:
    """Let CUDA round the inputs of fp32 matrix products only where asked; holds for the whole process."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


@contextmanager
def few_threads(device: torch.device, width: int) -> Iterator[None]:
    """Compute with one thread inside, where a text tower on the CPU is too narrow for more."""
    before = torch.get_num_threads()
    if device.type == "cpu" and width < NARROW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
