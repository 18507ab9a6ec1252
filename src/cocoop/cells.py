"""One cell of an experiment: a trained prompt and what it is tested on."""

import dataclasses
import json
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict

from cocoop.data.splits import Subset
from cocoop.files import digest
from cocoop.precision import Precision
from cocoop.settings import MethodChoice


class Training(BaseModel):
    """Everything that a trained prompt depends on; equal trainings share one prompt.

    Where nothing is learned, data, shots and seed play no part and have fixed values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    label: str
    preset: str
    config: dict[str, Any]
    recipe: dict[str, Any] | None
    backbone: str
    weights: str
    precision: Precision = "fp32"
    dataset: str
    subset: Subset
    shots: int
    seed: int

    @cached_property
    def key(self) -> str:
        """Short digest of all fields but the label, which is a name only."""
        return _key(self.model_dump(exclude={"label"}))


class Testing(BaseModel):
    """The images and the candidate classes of a test."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    subset: Subset
    split: str = "test"


class Cell(BaseModel):
    """One line of a protocol: train so, test so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    training: Training
    testing: Testing

    @cached_property
    def key(self) -> str:
        """Short digest of the whole cell."""
        return _key([self.protocol, self.training.key, self.testing.model_dump()])

    @property
    def title(self) -> str:
        """The cell in words, for progress and messages."""
        t = self.training
        return f"{self.testing.dataset} {t.label} seed {t.seed}: test on {self.testing.subset}"


def training(
    choice: MethodChoice,
    *,
    backbone: str,
    weights: str,
    precision: Precision,
    dataset: str,
    subset: Subset,
    shots: int,
    seed: int,
) -> Training:
    """Return the training of a method choice on a part of a dataset."""
    learned = choice.recipe is not None
    return Training(
        method=choice.method,
        label=choice.label,
        preset=choice.preset,
        config=dataclasses.asdict(choice.config),
        recipe=dataclasses.asdict(choice.recipe) if choice.recipe else None,
        backbone=backbone,
        weights=weights,
        precision=precision,
        dataset=dataset,
        subset=subset if learned else "all",
        shots=shots if learned else 0,
        seed=seed if learned else 0,
    )


def _key(value: Any) -> str:
    return digest(json.dumps(value, sort_keys=True))[:16]
