"""Files of CLIP weights: OpenAI's TorchScript archives, and state dicts of OpenAI's or open_clip's code."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.pretrained import get_pretrained_url
from torch import Tensor, nn

from cocoop.backbones.state import UNREADABLE as UNREADABLE
from cocoop.backbones.state import load_into, read_state, without_prefix
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import reason
from cocoop.utils.files import file_digest

RELEASED = "openai"  # open_clip's tag of the weights that CLIP's authors published
BARE = {"pretrained_image": False, "pretrained_text": False}  # towers without weights of their own

_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_SIZES = ("input_resolution", "context_length", "vocab_size")  # beside the weights in OpenAI's files only


def load_file(path: Path, architecture: str = "", config: Mapping[str, Any] | None = None) -> nn.Module:
    """Load a file of weights, .pt or .safetensors, or the index of several.

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
    state, published = _read(path, architecture)
    architecture = architecture or published
    if not architecture:
        raise UsageError(
            f"{path} is none of the files that OpenAI published, so its architecture must be given: "
            f"ARCHITECTURE@{path}, or ARCHITECTURE/TAG@{path} where it holds the weights of a known tag"
        )
    stamped = any(name.endswith(_SIZES) for name in state)
    model = open_clip.create_model(
        architecture,
        pretrained=None,
        force_quick_gelu=stamped or config.get("quick_gelu", False),
        force_preprocess_cfg={key: config[key] for key in _PREPROCESSING if key in config},
        **BARE,
    )
    return _filled(model, state, path, architecture)


def fill(model: nn.Module, path: Path) -> nn.Module:
    """Put the weights of a file into a model of open_clip. Raises CocoopError."""
    return _filled(model, _read(path, "its own")[0], path, "its description")


def _read(path: Path, architecture: str) -> tuple[dict[str, Tensor], str]:
    """Read a file where its architecture is known; return it with that of a published archive."""
    try:
        published = _published_architecture(path)
        if not architecture and not published:
            return {}, ""
        return (_read_archive(path) if published else read_state(path)), published
    except Exception as error:  # whatever a damaged or hostile file provokes
        raise CocoopError(f"{path} is not a file of CLIP weights: {reason(error)}") from error


def _filled(model: nn.Module, state: Mapping[str, Tensor], path: Path, architecture: str) -> nn.Module:
    """Put weights into a model, whatever prefix, layout or library they come with."""
    own = model.state_dict()
    layouts = set(own) | {name.removeprefix("text.") for name in own}  # both of open_clip's, for either class
    weights, prefix = without_prefix(state, layouts)
    weights = {name: value for name, value in weights.items() if name not in _SIZES}
    try:
        weights = convert_state_dict(model, weights)
        if hasattr(model, "text") and "positional_embedding" in weights:
            weights = convert_to_custom_text_state_dict(weights)
        for name in ("logit_scale", "logit_bias"):  # a number, or a vector of one
            if name in weights and name in own and weights[name].numel() == 1:
                weights[name] = weights[name].reshape(own[name].shape)
        load_into(model, weights)
    except (ValueError, KeyError) as error:
        without = f", without the prefix {prefix!r} of its names" if prefix else ""
        raise CocoopError(f"{path} does not hold the weights of {architecture}{without}: {error}") from None
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
