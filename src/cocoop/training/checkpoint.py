"""A fit between two epochs, in memory and on disk: what an interrupted one goes on from."""

import copy
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cocoop.methods import Method
from cocoop.methods._parts import load_learned
from cocoop.training.keep import Kept
from cocoop.training.log import TrainingLog
from cocoop.utils.files import digest, write_bytes

SHARE = 0.02  # of the time of a fit that writing checkpoints may take


@dataclass(frozen=True)
class Snapshot:
    """With a fit's arguments, all that its next epoch depends on.

    Augmented views and the order of the images are functions of (seed, epoch): no generator has a state.

    Attributes:
        tensors: "learned.NAME" from the method, "optimizer.INDEX.NAME" from the optimiser, "kept.NAME" of
            the weights to end with.
        log: of the epochs done.
    """

    tensors: dict[str, Tensor]
    log: TrainingLog


def take(method: Method, optimizer: torch.optim.Optimizer, kept: Kept, log: TrainingLog) -> Snapshot:
    """Copy the state of a fit."""
    tensors = {f"learned.{name}": value for name, value in method.state_dict().items()}
    tensors |= {f"kept.{name}": value for name, value in kept.tensors.items()}
    for index, buffers in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{name}": value for name, value in buffers.items() if value is not None
        }
    return Snapshot({name: _copy(value) for name, value in tensors.items()}, copy.deepcopy(log))


def restore(snapshot: Snapshot, method: Method, optimizer: torch.optim.Optimizer, kept: Kept) -> TrainingLog:
    """Put a state back into a method, its optimiser and what is kept; return the log to go on with."""
    learned: dict[str, Tensor] = {}
    buffers: dict[int, dict[str, Tensor]] = {}
    for key, value in snapshot.tensors.items():
        kind, _, name = key.partition(".")
        if kind == "learned":
            learned[name] = value
        elif kind == "kept":
            kept.tensors[name] = value
        else:
            index, _, name = name.partition(".")
            buffers.setdefault(int(index), {})[name] = _copy(value)
    load_learned(method, learned)
    optimizer.load_state_dict({"state": buffers, "param_groups": optimizer.state_dict()["param_groups"]})
    return copy.deepcopy(snapshot.log)


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
        log = header.get("trace", "")
        if header.get("sha256") != self._digest(tensors, log):
            return None
        return Snapshot(tensors, TrainingLog(**json.loads(log)))

    def save(self, snapshot: Callable[[], Snapshot]) -> None:
        """Write a snapshot, unless the last one was written so lately that it would slow the fit down."""
        start = time.monotonic()
        if start < self._next:
            return
        taken = snapshot()
        log = json.dumps(dataclasses.asdict(taken.log))
        header = {"trace": log, "sha256": self._digest(taken.tensors, log)}
        write_bytes(self._path, save(taken.tensors, header))
        end = time.monotonic()
        self._next = end + (end - start) / SHARE

    def delete(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)

    def _digest(self, tensors: dict[str, Tensor], log: str) -> str:
        return digest(self._key, log, save(tensors))


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()
