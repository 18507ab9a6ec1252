"""How a method is fitted: views, optimiser settings, the learning-rate schedule, named presets."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cocoop.data.views import AUGMENTATIONS, SCALE, Augmentation
from cocoop.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

Correction = Literal["local", "unbiased"]


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run; the defaults are CoCoOp's (section 4.1 and the released configuration).

    Attributes:
        epochs: passes over the shots; 0 where a method is computed in closed form.
        steps: number of all steps, in place of `epochs`; 0 for none.
        steps_per_shot: number of all steps for every shot, in place of both: times the images of a class, the
            most where classes differ; 0 for none.
        first_stage: share of the steps before a method's second stage, in which the schedule begins anew; 1
            where there is none.
        batch_size: images a step, 0 for all of them; a last smaller batch is dropped, unless it is the only
            one. Sentences, where a method learns from these alone.
        classes_per_step: K, classes that a step compares: those of its images and a random sample of the
            others; 0 for all of the N.
        class_correction: what makes up for the others in the logits: "local" adds log((N - 1) / (K - 1)) to
            all but that of an image's own class, as POMP; "unbiased" log((N - T) / (K - T)) to those of the
            sample alone, T being the classes of the batch: the sum of exponentials that softmax divides by is
            right on average then, its logarithm is not.
        lr: highest learning rate.
        lr_end: what the cosine goes down to.
        schedule: whether the cosine goes down by "epoch" or by "step".
        warmup_epochs: first epochs at the constant `warmup_lr`, the same for all that is learned.
        warmup_steps: first steps of a schedule by step, in which the rate rises from `warmup_lr`.
        warmup_lr: learning rate of the warm-up.
        momentum: of SGD, without dampening.
        weight_decay: on every learned parameter; SGD and Adam add it to the gradient, AdamW does not.
        optimizer: "sgd", "adam" or "adamw".
        eps: of Adam and AdamW.
        beta2: of Adam and AdamW, the decay of the mean square.
        lr_factors: times the learning rate, by the beginning of a parameter's name.
        clip: longest gradient of all that is learned, longer ones are shortened; 0 for any length.
        keep: the weights of the "last" epoch, or of the "best" on validation images, the last of equals.
        average: centre and deviation, in epochs, of the Gaussian by which the weights of all epochs are
            averaged at the end; None for no average.
        augmentation: training views: "crop" for random crops and flips, "mirror" for the test view and its
            mirror image in turns, "randaugment" for whole images altered at random, "none" for test views.
        crop: smallest share of an image's area that a random crop has.
        views: views of every image that closed forms and caches are computed from.
        from_views: whether steps see those alone, where others see a new view in every epoch.
        starts_from: file of a trained prompt whose values are taken where they have the same name and shape.
    """

    epochs: int = 10
    steps: int = 0
    steps_per_shot: int = 0
    first_stage: float = 1.0
    batch_size: int = 1
    classes_per_step: int = 0
    class_correction: Correction = "local"
    lr: float = 0.002
    lr_end: float = 0.0
    schedule: Literal["epoch", "step"] = "epoch"
    warmup_epochs: int = 1
    warmup_steps: int = 0
    warmup_lr: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    eps: float = 1e-8
    beta2: float = 0.999
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    clip: float = 0.0
    keep: Literal["last", "best"] = "last"
    average: tuple[float, float] | None = None
    augmentation: Augmentation = "crop"
    crop: float = SCALE[0]
    views: int = 1
    from_views: bool = False
    starts_from: str = ""

    def __post_init__(self) -> None:
        whole = ("epochs", "steps", "steps_per_shot", "batch_size", "clip")
        for name, least in (*((name, 0) for name in whole), ("views", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.classes_per_step and self.classes_per_step < 2:
            raise UsageError(
                f"classes_per_step must be at least 2, or 0 for all classes, not {self.classes_per_step}"
            )
        if not 0 < self.lr < math.inf:
            raise UsageError(f"lr must be a positive number, not {self.lr}")
        if not 0 <= self.lr_end <= self.lr:
            raise UsageError(f"lr_end must be from 0 to lr, {self.lr:g}, not {self.lr_end}")
        if not 0 <= self.beta2 < 1:
            raise UsageError(f"beta2 must be from 0 to less than 1, not {self.beta2}")
        if not 0 < self.crop <= 1:
            raise UsageError(f"crop must be above 0 and at most 1, not {self.crop}")
        if self.augmentation not in AUGMENTATIONS:
            raise UsageError(f"augmentation must be one of {', '.join(AUGMENTATIONS)}")
        if (self.steps or self.steps_per_shot) and self.schedule == "epoch":
            raise UsageError('a number of steps goes with schedule="step"')
        if not 0 < self.first_stage <= 1:
            raise UsageError(f"first_stage must be above 0 and at most 1, not {self.first_stage}")
        if self.first_stage < 1 and self.schedule == "epoch":
            raise UsageError('a second stage goes with schedule="step"')
        if self.first_stage < 1 and (self.average or self.keep == "best"):
            raise UsageError("weights of two stages are neither averaged nor kept from the best epoch")
        if self.steps and self.steps_per_shot:
            raise UsageError("the number of steps is that of all or that of every shot: set the other to 0")
        if self.average and not self.average[1] > 0:
            raise UsageError(f"the deviation of average must be above 0, not {self.average[1]}")
        if self.average and self.keep == "best":
            raise UsageError("weights are averaged over all epochs or kept from the best one, not both")
        if self.starts_from:
            from cocoop.methods._parts import pinned

            object.__setattr__(self, "starts_from", pinned(self.starts_from))

    @property
    def learns(self) -> bool:
        """Whether there are any steps."""
        return bool(self.epochs or self.steps or self.steps_per_shot)

    @property
    def length(self) -> str:
        """Its epochs or its steps, as tables have them."""
        if self.steps_per_shot:
            return f"{self.steps_per_shot} steps a shot"
        return f"{self.steps} steps" if self.steps else str(self.epochs)

    def steps_an_epoch(self, images: int) -> int:
        """Return the number of batches in a pass over so many images."""
        return max(1, images // self.batch_size) if self.batch_size else 1

    def all_epochs(self, images: int, shots: int) -> int:
        """Return the number of passes over so many images, the last one perhaps not to its end."""
        steps = self.all_steps(images, shots)
        counted = self.steps or self.steps_per_shot
        return math.ceil(steps / self.steps_an_epoch(images)) if counted else self.epochs

    def all_steps(self, images: int, shots: int) -> int:
        """Return the number of steps on so many images, of which a class has so many at most."""
        counted = self.steps or self.steps_per_shot * shots
        return counted or self.epochs * self.steps_an_epoch(images)

    def turn(self, total: int) -> int:
        """Return the step, of so many and counted from 0, with which a second stage begins."""
        return int(total * self.first_stage)

    def optimizer_of(self, parameters: "Iterable[tuple[str, nn.Parameter]]") -> "torch.optim.Optimizer":
        """Return the optimiser of what is learned, given with names.

        Raises:
            UsageError: there are no parameters of a name that `lr_factors` has.
        """
        import torch  # here, so that settings can be listed without it

        groups = list(self._groups(list(parameters)))
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, self.lr, self.momentum, weight_decay=self.weight_decay)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(groups, self.lr, (0.9, self.beta2), self.eps, self.weight_decay)

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
        return self._cosine((epoch - self.warmup_epochs) / self.epochs)

    def lr_at_step(self, step: int, total: int) -> float:
        """Learning rate of a step, counted from 0: a rising warm-up, then cosine to `lr_end` behind the last.

        Examples:
            >>> recipe = Recipe(schedule="step", lr=1.0, warmup_steps=2, warmup_lr=0.0)
            >>> [round(recipe.lr_at_step(step, 6), 3) for step in range(6)]
            [0.0, 0.5, 1.0, 0.854, 0.5, 0.146]
            >>> recipe = Recipe(schedule="step", lr=1.0, first_stage=0.5)
            >>> [round(recipe.lr_at_step(step, 4), 3) for step in range(4)]
            [1.0, 0.5, 1.0, 0.5]
        """
        turn = self.turn(total)
        step, total = (step, turn) if step < turn else (step - turn, total - turn)
        if step < self.warmup_steps:
            return self.warmup_lr + (self.lr - self.warmup_lr) * step / self.warmup_steps
        return self._cosine((step - self.warmup_steps) / max(1, total - self.warmup_steps))

    def _cosine(self, done: float) -> float:
        return self.lr_end + 0.5 * (self.lr - self.lr_end) * (1 + math.cos(math.pi * done))

    def _groups(self, named: "list[tuple[str, nn.Parameter]]") -> Iterator[dict[str, Any]]:
        rest = dict(named)
        for start, factor in self.lr_factors.items():
            if not (names := [name for name in rest if name.startswith(start)]):
                raise UsageError(f"lr_factors: nothing that is learned has a name that begins with {start!r}")
            yield {"params": [rest.pop(name) for name in names], "factor": factor}
        if rest:
            yield {"params": list(rest.values()), "factor": 1.0}


def training_views(recipe: Recipe | None) -> tuple[Augmentation, float]:
    """Return the augmentation and the smallest crop of a training's views."""
    recipe = recipe or Recipe()
    return recipe.augmentation, recipe.crop


@dataclass(frozen=True)
class Preset:
    """A method's settings under a name that says where they come from.

    Attributes:
        config: the method's own `Config`.
        recipe: how it is fitted; None where nothing is.
        source: where the values come from.
        by_dataset: what differs on single datasets: registered name -> field of either -> value.
    """

    config: Any
    recipe: Recipe | None
    source: str
    by_dataset: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
