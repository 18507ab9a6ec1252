"""How a prompt is trained: optimiser settings, the paper's learning-rate schedule, named presets."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from cocoop.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run; the defaults are CoCoOp's (section 4.1 and the released configuration).

    Attributes:
        epochs: passes over the shots.
        batch_size: images a step; a last smaller batch is dropped, unless it is the only one.
        lr: highest learning rate.
        warmup_epochs: first epochs at the constant `warmup_lr`.
        warmup_lr: learning rate of the warm-up.
        momentum: of SGD, without dampening.
        weight_decay: on every learned parameter; SGD and Adam add it to the gradient, AdamW does not.
        optimizer: "sgd", "adam" or "adamw".
        eps: of Adam and AdamW.
    """

    epochs: int = 10
    batch_size: int = 1
    lr: float = 0.002
    warmup_epochs: int = 1
    warmup_lr: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    eps: float = 1e-8

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"lr must be a positive number, not {self.lr}")

    def optimizer_of(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of what is learned."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, self.lr, self.momentum, weight_decay=self.weight_decay)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, self.lr, eps=self.eps, weight_decay=self.weight_decay)

    def lr_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0: constant warm-up, then cosine over all `epochs`.

        The cosine counts from the end of the warm-up, so it does not reach zero; the released
        implementation does the same.

        Examples:
            >>> recipe = Recipe(epochs=4)
            >>> [round(recipe.lr_at(epoch), 6) for epoch in range(4)]
            [1e-05, 0.002, 0.001707, 0.001]
        """
        if epoch < self.warmup_epochs:
            return self.warmup_lr
        return 0.5 * self.lr * (1 + math.cos(math.pi * (epoch - self.warmup_epochs) / self.epochs))


@dataclass(frozen=True)
class Preset:
    """A method's settings under a name that says where they come from.

    Attributes:
        config: the method's own `Config`.
        recipe: how it is trained; None where it takes no steps.
        source: where the values come from.
        by_dataset: what differs on single datasets: registered name -> field of either -> value.
    """

    config: Any
    recipe: Recipe | None
    source: str
    by_dataset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
