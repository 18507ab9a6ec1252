"""What several methods are made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.files import file_digest
from cocoop.utils.seeding import checked

DATASET = "dataset"  # in place of a template: the dataset's own
MARK = "#sha256:"  # between a path and the digest of what it held


def own_template(text: str, template: str) -> str:
    """Return a template, or the dataset's own in place of "dataset"."""
    return template if text == DATASET else text


class Draws(nn.Module):
    """Random numbers of a method: a function of its seed and of how often they were drawn, and no more.

    In training every call draws anew. Elsewhere every call draws the same. Both the seed and how often are
    part of the state dict, so that an interrupted training goes on with the same numbers, and a trained
    method predicts with the same ones wherever it is loaded.
    """

    seed: Tensor
    count: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.register_buffer("seed", torch.tensor(checked(seed)))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self) -> torch.Generator:
        """Return the generator of this call, on the CPU."""
        if self.training:
            self.count += 1
        turn = int(self.count) if self.training else 0
        state = int(np.random.SeedSequence((int(self.seed), turn)).generate_state(1)[0])
        return torch.Generator().manual_seed(state)

    def _apply(self, fn: Any, recurse: bool = True) -> "Draws":
        """Stay on the CPU, where the numbers are drawn: reading the state elsewhere would wait for a GPU."""
        return self


def whole_words(backbone: Backbone) -> dict[int, str]:
    """Return the words in small letters that are one token of a backbone's vocabulary, by token."""
    return {
        token: word
        for token, word in backbone.words()
        if word.isascii() and word.isalpha() and word.islower()
    }


def load_learned(method: Any, tensors: Mapping[str, Tensor]) -> None:
    """Put learned values into a method; those that are empty before its fit take the shape they come in.

    Raises:
        RuntimeError: they are not the values of this method.
    """
    for name, own in method.state_dict(keep_vars=True).items():
        if name in tensors and not own.numel():
            own.data = torch.empty_like(tensors[name], device=own.device)
    method.load_state_dict(tensors, strict=True)


def pinned(path: str) -> str:
    """Return a path with the digest of the file's content, so that settings say what they were run with.

    Raises:
        UsageError: there is no such file.
        CocoopError: it holds something else than the digest says.
    """
    name, _, known = path.partition(MARK)
    if not name:
        return path
    if not Path(name).is_file():
        raise UsageError(f"there is no file {name}")
    digest = file_digest(Path(name))
    if known and known != digest:
        raise CocoopError(f"{name} was changed since it was used: it holds something else now")
    return f"{name}{MARK}{digest}"


def path_of(pin: str) -> Path:
    """Return the path of a pinned file."""
    return Path(pin.partition(MARK)[0])
