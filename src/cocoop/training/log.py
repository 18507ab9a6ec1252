"""What is written down of a training; prompt files, model folders and records each keep a part of it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrainingLog:
    """One learning rate an epoch, one loss a step, and the time it took.

    Attributes:
        lr: learning rate of every epoch.
        loss: training loss of every step.
        seconds: wall time of all steps.
    """

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

    def by_step(self) -> dict[str, Any]:
        """Return what a prompt file keeps."""
        return {"lr": self.lr, "loss": self.loss, "seconds": self.seconds}

    def by_epoch(self) -> dict[str, Any]:
        """Return what a model folder keeps."""
        return {"lr": self.lr, "loss": self.epoch_losses, "seconds": self.seconds}
