"""What is written down of a training; prompt files, model folders and records each keep a part of it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrainingLog:
    """One learning rate an epoch, one loss a step, and the time it took.

    Attributes:
        lr: learning rate of every epoch, where it changes by step that of the first one.
        loss: training loss of every step.
        terms: where the loss has several, each of them at every step, by name.
        accuracy: share of the validation images right after every epoch, where the best is kept.
        selected: what was selected or found when the steps were done, by name.
        selected_on: what that was decided on, and on how many images; empty where nothing was.
        seconds: wall time of all steps, and of what is computed in closed form.
        hidden: "mean" and "std" of the hidden vectors of the training images, where the method has such.
    """

    lr: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    accuracy: list[float] = field(default_factory=list)
    selected: dict[str, Any] = field(default_factory=dict)
    selected_on: str = ""
    seconds: float = 0.0
    hidden: dict[str, list[float]] = field(default_factory=dict)

    @property
    def seconds_per_step(self) -> float:
        """Mean wall time of a step; 0 where there were none."""
        return self.seconds / len(self.loss) if self.loss else 0.0

    @property
    def epoch_losses(self) -> list[float]:
        """Mean loss of every epoch."""
        return self._by_epoch(self.loss)

    @property
    def epoch_terms(self) -> dict[str, list[float]]:
        """Mean of every term of the loss in every epoch."""
        return {name: self._by_epoch(values) for name, values in self.terms.items()}

    def add(self, loss: float, terms: dict[str, float]) -> None:
        """Write down a step."""
        self.loss.append(loss)
        for name, value in terms.items() if len(terms) > 1 else ():
            self.terms.setdefault(name, []).append(value)

    def by_step(self) -> dict[str, Any]:
        """Return what a prompt file keeps."""
        return dict(vars(self))

    def by_epoch(self) -> dict[str, Any]:
        """Return what a model folder keeps."""
        return {**vars(self), "loss": self.epoch_losses, "terms": self.epoch_terms}

    def _by_epoch(self, values: list[float]) -> list[float]:
        """Average over epochs, of equally many steps but for the last one of a number of steps."""
        size = -(-len(values) // max(1, len(self.lr)))
        parts = [values[start : start + size] for start in range(0, len(values), size or 1)]
        return [sum(part) / len(part) for part in parts]
