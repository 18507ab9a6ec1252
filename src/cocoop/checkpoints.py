"""Files of CLIP weights: OpenAI's TorchScript archives and state dicts, and open_clip's checkpoints."""

import math
import pickle
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
from cocoop.files import file_digest

RELEASED = "openai"  # open_clip's tag of the weights that CLIP's authors published
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError)

_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
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
        found = _read_archive(path) if _is_archive(path) else load_state_dict(str(path))
        state = {key: value for key, value in found.items() if key not in _STAMPS}
        released = len(state) + len(_STAMPS) == len(found)
        if released and not architecture:
            model = open_clip.CLIP(**read_config(state), quick_gelu=True)
            model.load_state_dict(state)
            return model
    except UNREADABLE as error:
        raise CocoopError(f"{path} is not a file of CLIP weights: {error}") from error
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
