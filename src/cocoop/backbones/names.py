"""open_clip's names: its architectures and tags, its models on the Hub, local folders and files."""

import json
import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import EntryNotFoundError
from open_clip.pretrained import get_pretrained_cfg
from torch import nn

from cocoop.backbones.checkpoint import BARE, RELEASED, UNREADABLE, fill, load_file
from cocoop.backbones.hub import HUB as TRANSFORMERS
from cocoop.backbones.pretrained import EMBEDDED, EMBEDDED_VIT, SHIPPED
from cocoop.backbones.state import load_into, read_state, weights_file
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.utils.assets import asset
from cocoop.utils.seeding import seeded

TOY = "toy"  # a few untrained layers, for tests
RANDOM = "random"  # as a tag: the architecture untrained, for tests and benchmarks

_TOY_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3},
    "quick_gelu": True,
}
HUB = "hf-hub:"
CONFIG = "open_clip_config.json"  # what open_clip writes beside weights
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def create_model(name: str) -> nn.Module:
    """Build the model that `load_backbone` describes, on the CPU in fp32.

    Raises:
        UsageError: no such architecture, tag or file, or a file that does not say its architecture.
        CocoopError: the weights cannot be had, or are not what they should be.
    """
    with quiet():
        if name == EMBEDDED_VIT:
            return _embedded_vit()
        if name in SHIPPED:
            return _from_folder(_embedded(name))
        if name == TOY:
            with seeded(0):
                model = open_clip.CLIP(**_TOY_CONFIG)
                nn.init.constant_(model.logit_scale, math.log(100.0))
                return model
        if name.startswith(HUB):
            return _from_hub(name)
        head, _, file = name.partition("@")
        if file:
            architecture, tag = _architecture(head)
            return load_file(Path(file), architecture, _tag_config(architecture, tag) if tag else None)
        if Path(name).is_dir():
            return _from_folder(Path(name))
        if Path(name).is_file():
            return load_file(Path(name))
        return _from_tag(*_architecture(name))


def model_config(name: str) -> dict[str, Any] | None:
    """Return what open_clip knows of a model's towers, loading no weights.

    None where only the weights tell (a file alone), or for a model of the Hub that is not on this machine.

    Raises:
        UsageError: no such architecture or tag.
        CocoopError: a folder without a readable description.
    """
    if name == TOY:
        return dict(_TOY_CONFIG)
    if name in SHIPPED:
        return _folder_config(_embedded(name))
    if name.startswith(HUB):
        described = try_to_load_from_cache(name.removeprefix(HUB), CONFIG)
        return _folder_config(Path(described).parent) if isinstance(described, str) else None
    if Path(name).is_dir():
        return _folder_config(Path(name))
    if Path(name).is_file():
        return None
    head = name.partition("@")[0]
    if not head:
        return None
    architecture, tag = _architecture(head)
    if tag and tag != RANDOM:
        _tag_config(architecture, tag)
    return architecture_config(architecture)


def architecture_config(architecture: str) -> dict[str, Any]:
    """Return what open_clip says of an architecture."""
    config: dict[str, Any] = open_clip.get_model_config(architecture)
    return config


def described(name: str) -> None:
    """Fetch the description of a model of the Hub, where it is not in the cache yet. Raises CocoopError."""
    if name.startswith(HUB):
        try:
            _fetch(name.removeprefix(HUB), CONFIG)
        except UNREADABLE as error:
            raise CocoopError(f"{name} cannot be had: {error}") from error


def cached(name: str) -> bool | None:
    """Return whether the weights of a name are on this machine; None where there are none to fetch."""
    if name.startswith(HUB):
        repository = name.removeprefix(HUB)
        return any(isinstance(try_to_load_from_cache(repository, file), str) for file in HUB_FILES)
    if name in (*SHIPPED, TOY) or "@" in name or Path(name).exists():
        return None
    architecture, tag = _architecture(name)
    tag = tag or RELEASED
    if tag == RANDOM or tag not in open_clip.list_pretrained_tags_by_model(architecture):
        return None
    config = _tag_config(architecture, tag)
    if not config.get("hf_hub"):
        folder = Path("~/.cache/clip").expanduser()  # where open_clip keeps what is not on the Hub
        return (folder / Path(config["url"]).name).exists()
    repository, filename = os.path.split(config["hf_hub"])
    files = [filename] if filename else [*HUB_FILES]
    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)


def weights_to_fetch(name: str) -> tuple[str, int] | None:
    """Return the repository of the Hub that loading a backbone will ask, and about how many bytes for.

    None where nothing has to be fetched, or only loading tells.

    Raises:
        UsageError: no such architecture or tag.
    """
    if ":" in name or cached(name) is not False:  # a repository of the Hub says at loading what it has
        return None
    architecture, _ = _architecture(name)
    if not (place := hub_repository(name)):
        return None
    with quiet(), torch.device("meta"):
        model = open_clip.create_model(architecture, pretrained=None, **BARE)
    return place, 4 * sum(parameter.numel() for parameter in model.parameters())


def hub_repository(name: str) -> str | None:
    """Return the repository of the Hub that the weights of a name come from; None where there is none."""
    for prefix in (HUB, TRANSFORMERS):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    head, _, file = name.partition("@")
    try:
        architecture, tag = _architecture(head)
        if file and not tag:
            return None
        found = _tag_config(architecture, _default(architecture, tag)).get("hf_hub", "")
    except UsageError:  # a folder, a file, or weights of no known tag
        return None
    return os.path.split(found)[0] or None


def _embedded(name: str) -> Path:
    asset(f"{name}/open_clip_config.json")
    return asset(f"{name}/{HUB_FILES[0]}").parent


def _embedded_vit() -> nn.Module:
    """Put the second image tower beside the first model's text tower, whose weights are stored once."""
    own, shared = (read_state(weights_file(_embedded(name))) for name in (EMBEDDED_VIT, EMBEDDED))
    text = {name: value for name, value in shared.items() if not name.startswith("visual.")}
    model = open_clip.create_model(f"local-dir:{_embedded(EMBEDDED_VIT)}", load_weights=False, **BARE)
    load_into(model, text | own)
    return model


def _architecture(name: str) -> tuple[str, str]:
    """Split "ARCHITECTURE/TAG" in open_clip's or the paper's spelling, e.g. "ViT-B/16"."""
    known = open_clip.list_models()
    for length in range(len(words := name.split("/")), 0, -1):
        if (architecture := "-".join(words[:length])) in known:
            return architecture, "/".join(words[length:])
    if os.sep in name and Path(name).suffix:
        raise UsageError(f"there is no file {name}")
    raise unknown("backbone", name, [*SHIPPED, TOY, *known])


def _from_tag(architecture: str, tag: str) -> nn.Module:
    if tag == RANDOM:
        with seeded(0):
            return open_clip.create_model(architecture, pretrained=None, **BARE)
    tag = _default(architecture, tag)
    config = _tag_config(architecture, tag)
    try:
        if config.get("hf_hub"):
            _fetch(*os.path.split(config["hf_hub"]))
        return open_clip.create_model(
            architecture, pretrained=tag, force_quick_gelu=config.get("quick_gelu", False)
        )
    except UNREADABLE as error:
        raise CocoopError(
            f"the weights {architecture}/{tag} cannot be loaded ({error}). With no network, fetch their file "
            f"elsewhere and give its path: --backbone {architecture}/{tag}@FILE"
        ) from error


def _default(architecture: str, tag: str) -> str:
    """Return a tag, or where none is given that of the weights that CLIP's authors published."""
    return tag or (RELEASED if RELEASED in open_clip.list_pretrained_tags_by_model(architecture) else "")


def _tag_config(architecture: str, tag: str) -> dict[str, Any]:
    """Return what open_clip knows of a tag, among it the activation, which belongs to the weights.

    The other activation loads too, and gives other features; so a mismatch is an error.
    """
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        raise unknown(f"weights of {architecture}, written {architecture}/TAG: tag", tag, [*tags, RANDOM])
    config: dict[str, Any] = get_pretrained_cfg(architecture, tag)
    plain = architecture.removesuffix("-quickgelu")
    if plain != architecture and not config.get("quick_gelu", False):
        raise UsageError(f"the weights {tag!r} were not trained with QuickGELU; use {plain}/{tag}")
    return config


def _fetch(repository: str, filename: str) -> str:
    """Return the local path of a file on the Hub, fetched where it is not in the cache yet."""
    names = [filename] if filename else [*HUB_FILES]
    for name in names:
        try:
            return str(hf_hub_download(repository, name))
        except EntryNotFoundError as error:
            if isinstance(error, OSError):  # the Hub could not be asked
                raise OSError(
                    f"{' or '.join(names)} of {repository} is neither in {HF_HUB_CACHE} nor to be fetched"
                ) from None
    raise OSError(f"{repository} on the Hub has none of {', '.join(names)}")


def _from_hub(name: str) -> nn.Module:
    try:
        return open_clip.create_model(name, require_pretrained=True)
    except UNREADABLE as error:
        raise CocoopError(f"{name} cannot be had: {error}") from error


def _folder_config(folder: Path) -> dict[str, Any]:
    """Read what open_clip wrote of a model's towers. Raises CocoopError."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))["model_cfg"]
        return config
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_folder(folder, error) from error


def _no_folder(folder: Path, error: BaseException) -> CocoopError:
    return CocoopError(f"{folder} is not a model folder ({CONFIG} and weights beside it): {error}")


def _from_folder(folder: Path) -> nn.Module:
    """Load a folder with open_clip_config.json and its weights, in shards or whole."""
    _folder_config(folder)
    try:
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, **BARE)
        return fill(model, weights_file(folder))
    except UNREADABLE as error:
        raise _no_folder(folder, error) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Hush what open_clip and the Hub's client log and warn of: what matters is raised."""
    loggers = [logging.getLogger(name) for name in ("", "huggingface_hub", "transformers")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
