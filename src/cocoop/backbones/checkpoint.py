"""Files of CLIP weights: OpenAI's TorchScript archives and state dicts, and open_clip's checkpoints."""

import io
import math
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
from cocoop.utils.display import reason
from cocoop.utils.files import file_digest

RELEASED = "openai"  # open_clip's tag of the weights that CLIP's authors published
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError)

_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_MAKERS = re.compile(r" (bytearray|\w*Tensor)$")  # of as much memory as a number says
_MOST_TUPLES = 50_000  # of a checkpoint; the largest, with an optimiser's state, have half of it
_PICKLES = 5  # in a row, in a file of the format before PyTorch 1.6
_STAMPS = ("input_resolution", "context_length", "vocab_size")  # in OpenAI's files only


def load_file(path: Path, architecture: str = "", config: Mapping[str, Any] | None = None) -> nn.Module:
    """Load a file of weights: OpenAI's archive or state dict, or open_clip's, as .pt or .safetensors.

    OpenAI's files say their sizes, and their activation is known. Others need the architecture.

    Args:
        path: the file.
        architecture: open_clip's name.
        config: what open_clip knows of these weights: activation and preprocessing.

    Raises:
        UsageError: no such file, or a file that does not say its architecture.
        CocoopError: the file is damaged, or holds the weights of another architecture.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        found = _read_archive(path) if _is_archive(path) else _read_state(path)
        state = {key: value for key, value in found.items() if key not in _STAMPS}
        released = len(state) + len(_STAMPS) == len(found)
        if released and not architecture:
            return _build(state)
    except Exception as error:  # whatever a damaged or hostile file provokes
        raise CocoopError(f"{path} is not a file of CLIP weights: {reason(error)}") from error
    if not architecture:
        raise UsageError(
            f"{path} does not say its architecture, as OpenAI's own files do; give it: "
            f"ARCHITECTURE@{path}, or ARCHITECTURE/TAG@{path} where it holds the weights of a known tag"
        )
    config = config or {}
    model = open_clip.create_model(
        architecture,
        pretrained=None,
        force_quick_gelu=released or config.get("quick_gelu", False),
        force_preprocess_cfg={key: config[key] for key in _PREPROCESSING if key in config},
    )
    _fill(model, state, path, architecture)
    return model


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
            for _ in range(_PICKLES):
                _check_codes(file)


def _check_codes(file: io.BytesIO | io.BufferedReader) -> None:
    tuples = 0
    for code, argument, _ in pickletools.genops(file):
        tuples += code.name.startswith("TUPLE")
        if code.name == "GLOBAL" and _MAKERS.search(str(argument)):
            raise ValueError(f"it names {argument}, which no checkpoint needs")
        if tuples > _MOST_TUPLES:
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


def _build(state: Mapping[str, Tensor]) -> nn.Module:
    """Build the model of OpenAI's weights, at first without memory: wrong sizes may be of any size."""
    config = read_config(state)
    with torch.device("meta"):
        needed = open_clip.CLIP(**config, quick_gelu=True).state_dict()
    if odd := sorted(name for name in needed.keys() | state if _shape(needed, name) != _shape(state, name)):
        raise ValueError(f"{odd[0]} has the shape {_shape(state, odd[0])} for {_shape(needed, odd[0])}")
    model = open_clip.CLIP(**config, quick_gelu=True)
    model.load_state_dict(state)
    return model


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None


def _fill(model: nn.Module, state: Mapping[str, Tensor], path: Path, architecture: str) -> None:
    if hasattr(model, "text") and "positional_embedding" in state:
        state = convert_to_custom_text_state_dict(state)
    try:
        model.load_state_dict(state)
    except RuntimeError:
        likely = _likely_architectures(state)
        guess = f"it looks like {' or '.join(likely)}" if likely else "nor one that open_clip names"
        raise CocoopError(f"{path} does not hold the weights of {architecture}; {guess}") from None


def _likely_architectures(state: Mapping[str, Tensor]) -> list[str]:
    """Name the architectures with the sizes of these weights."""
    try:
        found = _sizes(read_config(state))
    except (KeyError, IndexError, ValueError):
        return []
    names = [name for name in open_clip.list_models() if not name.endswith("quickgelu")]
    return [name for name in names if _sizes(open_clip.get_model_config(name)) == found][:3]


def _sizes(config: Mapping[str, Any]) -> list[Any]:
    vision, text = config["vision_cfg"], config["text_cfg"]
    keys = [(text, "width"), (text, "layers"), (vision, "width"), (vision, "layers"), (vision, "patch_size")]
    return [config["embed_dim"], vision.get("image_size"), *(part.get(key) for part, key in keys)]


def read_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the sizes of a CLIP off its weights, as an open_clip configuration; heads are 64 wide."""
    prefix = "text." if "text.positional_embedding" in state else ""
    context_length, width = state[f"{prefix}positional_embedding"].shape
    return {
        "embed_dim": state[f"{prefix}text_projection"].shape[1],
        "vision_cfg": _vit_config(state) if "visual.proj" in state else _resnet_config(state),
        "text_cfg": {
            "context_length": context_length,
            "vocab_size": state[f"{prefix}token_embedding.weight"].shape[0],
            "width": width,
            "heads": width // 64,
            "layers": _count(state, f"{prefix}transformer.resblocks."),
        },
    }


def _vit_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width, _, patch, _ = state["visual.conv1.weight"].shape
    grid = math.isqrt(state["visual.positional_embedding"].shape[0] - 1)
    layers = _count(state, "visual.transformer.resblocks.")
    return {"image_size": patch * grid, "layers": layers, "width": width, "patch_size": patch}


def _resnet_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    grid = math.isqrt(state["visual.attnpool.positional_embedding"].shape[0] - 1)
    layers = [_count(state, f"visual.layer{stage}.") for stage in range(1, 5)]
    width = state["visual.layer1.0.conv1.weight"].shape[0]
    return {"image_size": 32 * grid, "layers": layers, "width": width, "patch_size": None}


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count the distinct numbers behind a prefix of the names."""
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def _is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as OpenAI published its weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _read_archive(path: Path) -> dict[str, Tensor]:
    # an archive holds a program, so only those that OpenAI published are opened
    found = file_digest(path)
    if found not in published_digests():
        raise ValueError("it is a TorchScript archive, and none of those that OpenAI published")
    return dict(torch.jit.load(path, map_location="cpu").state_dict())


def published_digests() -> set[str]:
    """SHA-256 of the archives that OpenAI published, as their addresses state them."""
    names = open_clip.list_pretrained_models_by_tag(RELEASED)
    return {url.split("/")[-2] for name in names if (url := get_pretrained_url(name, RELEASED))}
