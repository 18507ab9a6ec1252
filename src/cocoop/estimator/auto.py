"""`cocoop fit --method auto`: try the methods that fit in seconds, and take the best on validation images."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from cocoop.data import Dataset, Item
from cocoop.errors import CocoopError, UsageError
from cocoop.estimator.estimator import PromptClassifier
from cocoop.estimator.features import encoder
from cocoop.methods import facts_of, ordered

AUTO = "auto"  # in place of a method
SHARE = 4  # of so many shots of a class, one is held back to choose by where there are no other images

Train = Callable[
    [PromptClassifier, Sequence[Item], Sequence[Item]], None
]  # a model, shots, validation images


@dataclass(frozen=True)
class Tried:
    """One method, and how it did on the images that are chosen by.

    Attributes:
        method: registered name.
        preset: that it was fitted with.
        right: images whose class it named.
        seconds: of its fit.
    """

    method: str
    preset: str
    right: int
    seconds: float


def quick(transferable: bool) -> Iterator[tuple[str, str]]:
    """Yield the methods that fit in seconds, each with the preset that does.

    Args:
        transferable: whether they must take class names that they were not trained on.
    """
    for name in ordered():
        facts = facts_of(name)
        if facts.quick and not (transferable and facts.bound):
            yield name, facts.quick


def choose(
    model: PromptClassifier,
    data: Dataset,
    train: Sequence[Item],
    held: Sequence[Item],
    fit: Train,
    console: Console,
    transferable: bool = False,
) -> Tried:
    """Fit every quick method to the shots; return the best on validation images, the earliest of equals.

    Args:
        model: with the backbone, template and seed to use.
        data: the dataset.
        train: its shots.
        held: validation images; without any, some of the shots are held back.
        fit: fits a model.
        console: where what was tried is printed.
        transferable: whether the method must take class names that it was not trained on.

    Raises:
        CocoopError: no class has two shots, so that none can be held back.
    """
    learn, judge = (train, held) if held else _split(train)
    if not judge:
        raise CocoopError("--method auto chooses by images that are not learned from, and there are none")
    names = sorted({item.name for item in learn})
    truth = torch.tensor([names.index(item.name) for item in judge])
    images, tried = encoder(model.load_backbone(), data), []
    images.test(data.root, learn)  # once, and not in the time of the first
    fval = images.test(data.root, judge)
    for name, preset in quick(transferable):
        each = PromptClassifier(**{**model.get_params(), "method": name, "preset": preset})
        start = time.perf_counter()
        fit(each, learn, judge)
        seconds = time.perf_counter() - start
        right = int((each.logits(fval, names).argmax(1) == truth).sum())
        tried.append(Tried(name, preset, right, seconds))
    best = max(tried, key=lambda one: one.right)
    _say(tried, best, len(judge), bool(held), console)
    return best


def check(params: dict[str, object]) -> None:
    """Check that no settings are given with "auto". Raises UsageError."""
    if given := [name for name in ("preset", "epochs", "settings") if params.get(name)]:
        raise UsageError(f"--method auto brings its settings; leave {', '.join(given)} out, or name a method")


def _split(shots: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Hold back a quarter of the shots of every class that has two, one at least."""
    by_class: dict[str, list[Item]] = {}
    for item in shots:
        by_class.setdefault(item.name, []).append(item)
    learn: list[Item] = []
    judge: list[Item] = []
    for items in by_class.values():
        count = max(1, len(items) // SHARE) if len(items) > 1 else 0
        learn += items[: len(items) - count]
        judge += items[len(items) - count :]
    return learn, judge


def _say(tried: Sequence[Tried], best: Tried, images: int, apart: bool, console: Console) -> None:
    table = Table(header_style="bold")
    for column in ("method", "preset", f"right of {images}", "fit, s"):
        table.add_column(column, justify="left" if column in ("method", "preset") else "right")
    for one in tried:
        mark = "bold" if one is best else None
        table.add_row(one.method, one.preset, str(one.right), f"{one.seconds:.1f}", style=mark)
    console.print(table)
    source = "validation images" if apart else "shots held back, which it then learns from too"
    console.print(
        f"chosen by {images} {source}: {best.method}. Methods that select settings on the same images look a "
        "little better here than they are.",
        highlight=False,
        soft_wrap=True,
    )
