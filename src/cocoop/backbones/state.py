"""Weights in files: one file or several shards, safe to open, under whatever prefix a trainer gave them."""

import io
import json
import pickle
import pickletools
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as load_safetensors
from torch import Tensor, nn

from cocoop.utils.display import some

UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError)
INDEX = ".index.json"  # ends the name of a file that says which shard holds which tensor
NAMES = (  # of files of weights in a folder, the first that is there is taken
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
WRAPPERS = ("state_dict", "model_state_dict", "model")  # around the weights in a trainer's checkpoint

_ALLOCATORS = re.compile(r" (bytearray|\w*Tensor)$")  # of as much memory as a number says
_MAX_TUPLES = 50_000  # of a checkpoint; the largest, with an optimiser's state, have half of it
_LEGACY_PICKLES = 5  # in a row, in a file of the format before PyTorch 1.6


def weights_file(folder: Path) -> Path:
    """Return the file of weights of a folder, or the index of its shards. Raises FileNotFoundError."""
    for name in NAMES:
        for path in (folder / name, folder / f"{name}{INDEX}"):
            if path.is_file():
                return path
    others = sorted(
        path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pt", ".pth")
    )
    if len(others) == 1:
        return others[0]
    raise FileNotFoundError(
        f"it has several files of weights: {some([path.name for path in others])}"
        if others
        else "it has no file of weights"
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the weights of a file, or of all shards that an index names.

    Raises:
        ValueError: it holds something else.
        Exception: whatever a damaged or hostile file provokes.
    """
    if path.name.endswith(INDEX):
        names = sorted(set(json.loads(path.read_text("utf-8"))["weight_map"].values()))
        if any(not isinstance(name, str) or Path(name).name != name for name in names):
            raise ValueError("its index names files outside its folder")
        if missing := [name for name in names if not (path.parent / name).is_file()]:
            raise ValueError(f"{len(missing)} of its {len(names)} shards are missing: {some(missing)}")
        return {key: value for name in names for key, value in read_state(path.parent / name).items()}
    if path.suffix == ".safetensors":
        state: Any = load_safetensors(path)
    else:
        check_pickle(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name in WRAPPERS:
            if isinstance(state, dict) and isinstance(state.get(name), dict):
                state = state[name]
    if not isinstance(state, dict) or not state:
        raise ValueError("it holds no weights by name")
    state = dict(state)
    check_tensors(state, path)
    return state


def without_prefix(state: Mapping[str, Tensor], names: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """Return the weights under the names of a model, and the prefix that a trainer put before these.

    "module." of data-parallel training, "model." of Lightning, and whatever else stands before most of the
    names. What a training keeps beside the model, such as an average of its weights, is left out.
    """
    sample = sorted(names)[:: max(1, len(names) // 16)]
    found = {key[: -len(name)] for name in sample for key in state if key.endswith(f".{name}")} | {""}
    fits = {prefix: sum(f"{prefix}{name}" in state for name in names) for prefix in found}
    prefix = max(sorted(found), key=fits.__getitem__)
    kept = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    return kept, prefix


def load_into(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put weights into a model.

    Raises:
        ValueError: they are not its own; the message says what is missing, unexpected or of another shape.
    """
    if problem := difference(model.state_dict(), state):
        raise ValueError(problem)
    model.load_state_dict(state)


def difference(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str:
    """Return in words how names and shapes of weights differ from a model's; empty where they do not."""
    missing, unexpected = sorted(own.keys() - other.keys()), sorted(other.keys() - own.keys())
    shapes = [
        f"{name} {tuple(other[name].shape)} for {tuple(own[name].shape)}"
        for name in sorted(own.keys() & other.keys())
        if own[name].shape != other[name].shape
    ]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    listed = [
        f"{len(each)} {what}: {', '.join(each[:3])}{' ...' * (len(each) > 3)}"
        for what, each in parts.items()
        if each
    ]
    return f"{'; '.join(listed)} (of {len(own)})" if listed else ""


def check_pickle(path: Path) -> None:
    """Refuse what PyTorch's restricted reader would still let a file do: fill the memory, or the stack.

    Raises:
        ValueError: the file holds compressed tensors, names a type that makes memory of a number, or has
            tuples that may lie in each other deeper than they can be hashed.
        Exception: it is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError("it is compressed, which PyTorch's own files are not")
                if member.filename.endswith(".pkl"):
                    _check_codes(io.BytesIO(archive.read(member)))
    else:
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                _check_codes(file)


def _check_codes(file: io.BytesIO | io.BufferedReader) -> None:
    tuples = 0
    for code, argument, _ in pickletools.genops(file):
        tuples += code.name.startswith("TUPLE")
        if code.name == "GLOBAL" and _ALLOCATORS.search(str(argument)):
            raise ValueError(f"it names {argument}, which no checkpoint needs")
        if tuples > _MAX_TUPLES:
            raise ValueError("it holds more tuples than a checkpoint needs")


def check_tensors(state: Mapping[str, Any], path: Path) -> None:
    """Check that what a file gave are tensors, and no larger than the file. Raises ValueError."""
    for name, value in state.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise ValueError(f"it holds {type(value).__name__} where a tensor belongs")
        if value.layout != torch.strided or value.is_meta:
            raise ValueError(f"{name} is no plain tensor")
    if sum(value.numel() * value.element_size() for value in state.values()) > 2 * path.stat().st_size:
        raise ValueError("its tensors are larger than the file")
