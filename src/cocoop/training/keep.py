"""Which weights a training ends with: the last, those best on validation images, or an average of all."""

import math

import torch
from torch import Tensor

from cocoop.methods import Method
from cocoop.methods._parts import load_learned
from cocoop.methods._recipe import Recipe


class Kept:
    """The weights to end with, as far as a training has come.

    Args:
        recipe: says which.
        tensors: those of an interrupted training.
    """

    def __init__(self, recipe: Recipe, tensors: dict[str, Tensor] | None = None) -> None:
        self._best = recipe.keep == "best"
        self._average = recipe.average
        self.tensors = dict(tensors or {})

    def add(self, method: Method, epoch: int, accuracy: list[float]) -> None:
        """Take the weights after an epoch, counted from 0, into account; `accuracy` is that of all so far."""
        if not (self._best or self._average):
            return
        own = {name: value.detach().cpu().clone() for name, value in method.state_dict().items()}
        if self._best and accuracy and accuracy[-1] >= max(accuracy):
            self.tensors = own
        if self._average:
            centre, deviation = self._average
            weight = math.exp(-0.5 * ((epoch + 1 - centre) / deviation) ** 2)
            before = self.tensors.pop("weight", torch.zeros((), dtype=torch.float64))
            total = float(before) + weight
            share = weight / total if total else 1.0
            self.tensors = {
                name: torch.lerp(self.tensors.get(name, value), value, share) if _averaged(value) else value
                for name, value in own.items()
            }
            self.tensors["weight"] = before + weight

    def put_back(self, method: Method) -> None:
        """Give the method the weights to end with."""
        if tensors := {name: value for name, value in self.tensors.items() if name != "weight"}:
            load_learned(method, tensors)


def _averaged(value: Tensor) -> bool:
    return value.is_floating_point()
