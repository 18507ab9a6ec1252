"""One cell of an experiment: a trained prompt and what it is tested on."""

import dataclasses
import json
import random
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict

from cocoop.backbones.precision import Precision
from cocoop.data import Dataset, Item
from cocoop.data.splits import Subset, select, subset_labels
from cocoop.methods._settings import MethodChoice
from cocoop.training.modes import TestingMode
from cocoop.utils.files import digest


class Training(BaseModel):
    """Everything that a trained prompt depends on; equal trainings share one prompt.

    Where nothing is learned, subset, shots and seed play no part and have fixed values, but for the seed of
    what is drawn at random; where no images are used the shots alone.

    Attributes:
        method: registered name.
        label: name for tables: the method, and what differs from its default preset.
        preset: name of the preset that the settings started from.
        config: the method's own settings.
        recipe: how it is fitted; null where nothing is.
        backbone: name of the frozen CLIP.
        weights: SHA-256 of its weights.
        precision: of its matrix products.
        dataset: registered name, or the path of own data.
        subset: classes trained on.
        shots: training images a class; a class with fewer gave all it has.
        seed: of the draw of images and of everything else that is random.
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

    @property
    def learns(self) -> bool:
        """Whether anything is fitted: by steps, or to images."""
        return self.recipe is not None or self.shots > 0

    @cached_property
    def key(self) -> str:
        """Short digest of all fields but the label, which is a name only."""
        return _key(self.model_dump(exclude={"label"}))


class Testing(BaseModel):
    """The images and the candidate classes of a test.

    Attributes:
        dataset: registered name.
        subset: images of these classes are tested.
        candidates: the classes they are classified among; those of the images are among them.
        split: the dataset's list of test images.
        sample: how many of them are tested, drawn at random, always the same; 0 for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    subset: Subset
    candidates: Subset
    split: str = "test"
    sample: int = 0

    def choose(self, dataset: Dataset) -> tuple[tuple[Item, ...], list[str]]:
        """Return the test items, labelled by their place among the candidates, and the candidates' names."""
        labels = range(len(dataset.class_names))
        candidates, tested = subset_labels(labels, self.candidates), set(subset_labels(labels, self.subset))
        items = [item for item in dataset.items(self.split) if item.label in tested]
        if 0 < self.sample < len(items):
            drawn = set(random.Random(0).sample(range(len(items)), self.sample))
            items = [item for place, item in enumerate(items) if place in drawn]
        return select(items, candidates), [dataset.class_names[label] for label in candidates]


class Cell(BaseModel):
    """One line of a protocol: train so, test so.

    Attributes:
        protocol: registered name.
        training: how the prompt is trained.
        testing: what it is tested on.
        mode: whether the logits of conditional prompts are exact; see `cocoop.training.screening`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    training: Training
    testing: Testing
    mode: TestingMode = "exact"

    @cached_property
    def key(self) -> str:
        """Short digest of the whole cell."""
        without = set() if self.testing.sample else {"sample"}  # records of all images keep their keys
        mode = [self.mode] if self.mode != "exact" else []
        return _key([self.protocol, self.training.key, self.testing.model_dump(exclude=without), *mode])

    def in_mode(self, mode: TestingMode) -> "Cell":
        """Return the cell with its logits computed in another way, which its label then says."""
        label = self.training.label
        label = f"{label[:-1]}, {mode})" if label.endswith(")") else f"{label} ({mode})"
        training = self.training.model_copy(update={"label": label})
        return Cell(protocol=self.protocol, training=training, testing=self.testing, mode=mode)

    @property
    def title(self) -> str:
        """The cell in words, for progress and messages."""
        train, test = self.training, self.testing
        where = test.subset if test.dataset == train.dataset else test.dataset
        return f"{train.dataset} {train.label} seed {train.seed}: test on {where}"

    @property
    def transfers(self) -> bool:
        """Whether a learned prompt meets other classes than those it was trained on."""
        train, test = self.training, self.testing
        same = (train.dataset, train.subset) == (test.dataset, test.candidates)
        return train.learns and not same


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
    facts = choice.facts
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
        subset=subset if facts.learns else "all",
        shots=shots if facts.images else 0,
        seed=seed if facts.learns or facts.draws else 0,
    )


def _key(value: Any) -> str:
    return digest(json.dumps(value, sort_keys=True))[:16]
