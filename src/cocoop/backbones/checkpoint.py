"""Files of CLIP weights: OpenAI's TorchScript archives, and state dicts of OpenAI's or open_clip's code."""

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import load_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.pretrained import get_pretrained_url
from safetensors import SafetensorError
from torch import Tensor, nn

from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import LONGEST, reason
from cocoop.utils.files import file_digest

RELEASED = "openai"  # open_clip's tag of the weights that CLIP's authors published
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError)

_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_ALLOCATORS = re.compile(r" (bytearray|\w*Tensor)$")  # of as much memory as a number says
_MAX_TUPLES = 50_000  # of a checkpoint; the largest, with an optimiser's state, have half of it
_LEGACY_PICKLES = 5  # in a row, in a file of the format before PyTorch 1.6
_SIZES = ("input_resolution", "context_length", "vocab_size")  # beside the weights in OpenAI's files only


def load_file(path: Path, architecture: str = "", config: Mapping[str, Any] | None = None) -> nn.Module:
    """Load a file of weights, .pt or .safetensors.

    Args:
        path: the file.
        architecture: open_clip's name; the archives that OpenAI published need none.
        config: what open_clip knows of these weights: activation and preprocessing. Without it OpenAI's have
            QuickGELU, and others the architecture's activation.

    Raises:
        UsageError: there is no such file, or it needs an architecture.
        CocoopError: the file is damaged, or holds the weights of another architecture.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    config = config or {}
    try:
        published = _published_architecture(path)
        architecture = architecture or published
        state = (_read_archive(path) if published else _read_state(path)) if architecture else {}
    except Exception as error:  # whatever a damaged or hostile file provokes
        raise CocoopError(f"{path} is not a file of CLIP weights: {reason(error)}") from error
    if not architecture:
        raise UsageError(
            f"{path} is none of the files that OpenAI published, so its architecture must be given: "
            f"ARCHITECTURE@{path}, or ARCHITECTURE/TAG@{path} where it holds the weights of a known tag"
        )
    weights = {name: value for name, value in state.items() if name not in _SIZES}
    model = open_clip.create_model(
        architecture,
        pretrained=None,
        force_quick_gelu=len(weights) < len(state) or config.get("quick_gelu", False),
        force_preprocess_cfg={key: config[key] for key in _PREPROCESSING if key in config},
    )
    if hasattr(model, "text") and "positional_embedding" in weights:
        weights = convert_to_custom_text_state_dict(weights)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        difference = " ".join(str(error).split()[6:])[:LONGEST]
        raise CocoopError(f"{path} does not hold the weights of {architecture}: {difference}") from None
    return model


def published_architectures() -> dict[str, str]:
    """Return the architecture of each archive that OpenAI published, by the SHA-256 in its address."""
    names = open_clip.list_pretrained_models_by_tag(RELEASED)
    urls = {name: get_pretrained_url(name, RELEASED) for name in names if not name.endswith("-quickgelu")}
    return {url.split("/")[-2]: name for name, url in urls.items() if url}


def _published_architecture(path: Path) -> str:
    """Return the architecture of one of OpenAI's archives, or "" for what is no TorchScript archive.

    An archive holds a program, so another than those is refused. Raises ValueError.
    """
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        if not any(name.endswith("constants.pkl") for name in archive.namelist()):
            return ""
    if architecture := published_architectures().get(file_digest(path)):
        return architecture
    raise ValueError("it is a TorchScript archive, and none of those that OpenAI published")


def _read_archive(path: Path) -> dict[str, Tensor]:
    return dict(torch.jit.load(path, map_location="cpu").state_dict())


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        check_pickle(path)
    state = dict(load_state_dict(str(path)))
    check_tensors(state, path)
    return state


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
