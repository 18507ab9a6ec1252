"""What a hostile input is, and the ways into the library that inputs are given to."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from cocoop import Backbone, CocoopError, load_backbone
from cocoop.cli import main
from cocoop.data.decode import open_image, to_image
from cocoop.estimator.estimator import PromptClassifier
from cocoop.utils.files import DIGEST, digest

MODEL = "model"  # a model folder beside every case, a fresh copy for each
CANARY = "canary"  # what code in an input would write, below the case's folder


@dataclass(frozen=True)
class Case:
    """One hostile input and what is done with it.

    Attributes:
        name: of its own within its kind.
        make: writes the input into a folder.
        use: gives it to the library; what goes wrong must be a `CocoopError` or a command's exit code.
        says: what the message of a refusal must hold; nothing is asked where it is empty.
        check: what must hold of what `use` returns where the input is accepted.
    """

    name: str
    make: Callable[[Path], object]
    use: Callable[[Path], object]
    says: str = ""
    check: Callable[[object], bool] = lambda result: True


class Refused(Exception):
    """A command ended with exit code 1 or 2; what it said is on stderr."""


def command(*words: str) -> Callable[[Path], object]:
    """Return what runs the command in a case's folder, its output going to `out`."""

    def use(folder: Path) -> None:
        try:
            main(words)
        except SystemExit as stopped:
            if stopped.code in (1, 2):
                raise Refused from None
            if stopped.code:
                raise RuntimeError(f"exit code {stopped.code}") from None

    return use


def content(name: str, data: bytes | str) -> Callable[[Path], object]:
    """Return what writes one file."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return lambda folder: (folder / name).write_bytes(raw)


def decode(name: str) -> Callable[[Path], object]:
    """Return what decodes an image both ways, as a person's own and as a benchmark's; both are tried."""

    def use(folder: Path) -> tuple[int, int]:
        images, wrong = [], []
        for read in (lambda: to_image(folder / name), lambda: open_image(folder, name)):
            try:
                images.append(read())
            except CocoopError as error:
                wrong.append(error)
        for image in images:
            load_backbone_once().preprocess.test(image)
        if wrong:
            raise wrong[0]
        return images[0].size

    return use


def with_digest(body: dict[str, Any]) -> str:
    """Return JSON with the digest that the library asks for: anybody can compute one."""
    body = {name: value for name, value in body.items() if name != DIGEST}
    return json.dumps(body | {DIGEST: digest(json.dumps(body, sort_keys=True))})


@lru_cache(maxsize=1)
def load_backbone_once() -> Backbone:
    """Return the smallest backbone; it is loaded before memory is measured."""
    return load_backbone("toy")


def write_model(folder: Path, method: str = "cocoop") -> None:
    """Train the smallest model for a moment and save it."""
    clip = load_backbone_once()
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(4, clip.embed_dim, generator=generator), dim=-1)
    model = PromptClassifier(method, clip, epochs=1)
    model.fit_features(lambda epoch: features, ["red", "blue", "red", "blue"])
    model.save(folder)
