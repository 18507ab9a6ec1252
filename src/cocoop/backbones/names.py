"""Where a CLIP comes from: open_clip's architectures and tags, the Hub, local folders and files."""

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
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import EntryNotFoundError
from open_clip.pretrained import get_pretrained_cfg
from torch import nn

from cocoop.backbones.checkpoint import RELEASED, UNREADABLE, load_file
from cocoop.backbones.pretrained import EMBEDDED
from cocoop.errors import CocoopError, UsageError, unknown
from cocoop.utils.assets import asset
from cocoop.utils.seeding import seeded

TOY = "toy"  # a few untrained layers, for tests
RANDOM = "random"  # as a tag: the architecture untrained, for tests and benchmarks

_TOY_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3},
    "quick_gelu": True,
}
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def create_model(name: str) -> nn.Module:
    """Build the model that `load_backbone` describes, on the CPU in fp32.

    Raises:
        UsageError: no such architecture, tag or file, or a file that does not say its architecture.
        CocoopError: the weights cannot be had, or are not what they should be.
    """
    with _quiet():
        if name == EMBEDDED:
            return _from_folder(_embedded(EMBEDDED))
        if name == TOY:
            with seeded(0):
                model = open_clip.CLIP(**_TOY_CONFIG)
                nn.init.constant_(model.logit_scale, math.log(100.0))
                return model
        if name.startswith("hf-hub:"):
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


def text_sizes(name: str) -> tuple[int, int] | None:
    """Return w, the size of a text token's vector, and d, that of the joint embedding, loading no weights.

    None where only the weights tell: for a file alone, a folder, or a model of the Hub.

    Raises:
        UsageError: no such architecture or tag.
    """
    if name == TOY:
        config: dict[str, Any] = _TOY_CONFIG
    elif name == EMBEDDED:
        config = json.loads((_embedded(EMBEDDED) / "open_clip_config.json").read_text())["model_cfg"]
    elif name.startswith("hf-hub:") or Path(name).exists():
        return None
    else:
        architecture, tag = _architecture(name.partition("@")[0])
        if tag and tag != RANDOM:
            _tag_config(architecture, tag)
        config = open_clip.get_model_config(architecture)
    width = config["text_cfg"].get("width")
    return (width, config["embed_dim"]) if width else None


def weights_to_fetch(name: str) -> tuple[str, int] | None:
    """Return the repository of the Hub that loading a backbone will ask, and about how many bytes for.

    None where nothing has to be fetched, or only loading tells.

    Raises:
        UsageError: no such architecture or tag.
    """
    if name in (EMBEDDED, TOY) or name.startswith("hf-hub:") or "@" in name or Path(name).exists():
        return None
    architecture, tag = _architecture(name)
    if tag == RANDOM:
        return None
    repository, filename = os.path.split(
        _tag_config(architecture, _default(architecture, tag)).get("hf_hub", "")
    )
    names = [filename] if filename else [*_HUB_FILES]
    if not repository or any(isinstance(try_to_load_from_cache(repository, each), str) for each in names):
        return None
    with _quiet():
        model = open_clip.create_model(architecture, pretrained=None)
    return repository, 4 * sum(parameter.numel() for parameter in model.parameters())


def _embedded(name: str) -> Path:
    asset(f"{name}/open_clip_config.json")
    return asset(f"{name}/{HUB_FILES[0]}").parent


def _architecture(name: str) -> tuple[str, str]:
    """Split "ARCHITECTURE/TAG" in open_clip's or the paper's spelling, e.g. "ViT-B/16"."""
    known = open_clip.list_models()
    for length in range(len(words := name.split("/")), 0, -1):
        if (architecture := "-".join(words[:length])) in known:
            return architecture, "/".join(words[length:])
    if os.sep in name and Path(name).suffix:
        raise UsageError(f"there is no file {name}")
    raise unknown("backbone", name, [EMBEDDED, TOY, *known])


def _from_tag(architecture: str, tag: str) -> nn.Module:
    if tag == RANDOM:
        with seeded(0):
            return open_clip.create_model(architecture, pretrained=None)
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


def _from_folder(folder: Path) -> nn.Module:
    """Load a folder with open_clip_config.json and its weights, as open_clip saves them."""
    try:
        return open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    except UNREADABLE as error:
        raise CocoopError(
            f"{folder} is not a model folder (open_clip_config.json and weights beside it): {error}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hush what open_clip and the Hub's client log and warn of: what matters is raised."""
    loggers = [logging.getLogger(), logging.getLogger("huggingface_hub")]
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
