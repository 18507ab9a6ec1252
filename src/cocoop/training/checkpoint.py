"""A fit between two epochs, in memory and on disk: what an interrupted one goes on from."""

import copy
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cocoop.methods import Method
from cocoop.utils.files import digest, write_bytes

SHARE = 0.02  # of the time of a fit that writing checkpoints may take


@dataclass
class Trace:
    """What happened in a fit: one learning rate an epoch, one loss a step, and the time it took."""

    lr: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def seconds_per_step(self) -> float:
        """Mean wall time of a step."""
        return self.seconds / max(1, len(self.loss))

    @property
    def epoch_losses(self) -> list[float]:
        """Mean loss of every epoch; all have equally many steps."""
        size = len(self.loss) // max(1, len(self.lr))
        parts = (self.loss[start : start + size] for start in range(0, size * len(self.lr), size or 1))
        return [sum(part) / size for part in parts]


@dataclass(frozen=True)
class Snapshot:
    """With a fit's arguments, all that its next epoch depends on.

    Augmented views and the order of the images are functions of (seed, epoch): no generator has a state.

    Attributes:
        tensors: "learned.NAME" from the method, "optimizer.INDEX.NAME" from SGD.
        trace: of the epochs done.
    """

    tensors: dict[str, Tensor]
    trace: Trace


def take(method: Method, optimizer: torch.optim.SGD, trace: Trace) -> Snapshot:
    """Copy the state of a fit."""
    tensors = {f"learned.{name}": value for name, value in method.state_dict().items()}
    for index, buffers in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{name}": value for name, value in buffers.items() if value is not None
        }
    return Snapshot({name: _copy(value) for name, value in tensors.items()}, copy.deepcopy(trace))


def restore(snapshot: Snapshot, method: Method, optimizer: torch.optim.SGD) -> Trace:
    """Put a state back into a method and its optimiser, and return the trace to go on with."""
    learned: dict[str, Tensor] = {}
    buffers: dict[int, dict[str, Tensor]] = {}
    for key, value in snapshot.tensors.items():
        kind, _, name = key.partition(".")
        if kind == "learned":
            learned[name] = value
        else:
            index, _, name = name.partition(".")
            buffers.setdefault(int(index), {})[name] = _copy(value)
    method.load_state_dict(learned, strict=True)
    optimizer.load_state_dict({"state": buffers, "param_groups": optimizer.state_dict()["param_groups"]})
    return copy.deepcopy(snapshot.trace)


class Checkpoint:
    """The latest snapshot of one fit, as a file that is deleted when the fit is done.

    Args:
        path: of the file.
        key: of the training it belongs to.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._next = 0.0  # when writing again is worth its time

    def load(self) -> Snapshot | None:
        """Return the snapshot; None where there is none, or it is damaged or another training's."""
        try:
            with safe_open(self._path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        trace = header.get("trace", "")
        if header.get("sha256") != self._digest(tensors, trace):
            return None
        return Snapshot(tensors, Trace(**json.loads(trace)))

    def save(self, snapshot: Callable[[], Snapshot]) -> None:
        """Write a snapshot, unless the last one was written so lately that it would slow the fit down."""
        start = time.monotonic()
        if start < self._next:
            return
        taken = snapshot()
        trace = json.dumps(dataclasses.asdict(taken.trace))
        header = {"trace": trace, "sha256": self._digest(taken.tensors, trace)}
        write_bytes(self._path, save(taken.tensors, header))
        end = time.monotonic()
        self._next = end + (end - start) / SHARE

    def delete(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)

    def _digest(self, tensors: dict[str, Tensor], trace: str) -> str:
        return digest(self._key, trace, save(tensors))


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()
