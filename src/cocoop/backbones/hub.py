"""What transformers keeps in a folder, or in a repository of the Hub, written hf:OWNER/NAME."""

import json
from pathlib import Path
from typing import Any

from cocoop.errors import CocoopError, UsageError
from cocoop.utils.display import reason

HUB = "hf:"
EXTRA = "hf"  # of this package, which brings transformers
CONFIG = "config.json"
OTHERS = "open_clip_config.json"  # where it is, the folder is open_clip's
DESCRIPTIONS = ("*.json", "*.txt", "*.model")  # all that is fetched beside weights
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def description(name: str) -> dict[str, Any] | None:
    """Return the configuration of a name; None where it is not of this kind.

    Raises:
        CocoopError: there is none to be had, or it cannot be read.
    """
    if name.startswith(HUB):
        path = Path(_description_file(name))
    elif Path(name).is_dir() and not (Path(name) / OTHERS).is_file() and (Path(name) / CONFIG).is_file():
        path = Path(name) / CONFIG
    else:
        return None
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CocoopError(f"{path} is not the description of a model: {reason(error)}") from error
    if not isinstance(config, dict):
        raise CocoopError(f"{path} is not the description of a model")
    return config


def tokenizer_of(place: str) -> Any:
    """Load the tokenizer of a folder, or of a model on the Hub.

    Raises:
        CocoopError: it is not there, or needs a package that is missing; the message says which to install.
    """
    files = [path for pattern in TOKENIZERS for path in Path(place).glob(pattern)]
    if Path(place).is_dir() and not files:  # transformers would make an empty one
        raise CocoopError(f"{place} has no tokenizer: none of {', '.join(TOKENIZERS)}")
    try:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(place)
    except ImportError as error:
        raise CocoopError(
            f"the tokenizer of {place} needs more: pip install 'cocoop[{EXTRA}]' ({reason(error)})"
        ) from None
    except Exception as error:  # of several libraries, each with errors of its own
        raise CocoopError(
            f"there is no tokenizer for {place} that can be read: {reason(error)}. For SentencePiece: "
            f"pip install 'cocoop[{EXTRA}]'"
        ) from error


def fetched(name: str) -> Path:
    """Return the folder of a model, fetched from the Hub where it is not there yet. Raises CocoopError."""
    if not name.startswith(HUB):
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import EntryNotFoundError

    repository = name.removeprefix(HUB)
    try:
        snapshot_download(repository, allow_patterns=list(DESCRIPTIONS))
        for file in WEIGHTS:
            for path in (f"{file}.index.json", file):
                try:
                    found = Path(_file(name, path))
                except EntryNotFoundError:
                    continue
                if found.name.endswith(".json"):
                    for shard in set(json.loads(found.read_text("utf-8"))["weight_map"].values()):
                        _file(name, shard)
                return found.parent
    except (OSError, ValueError, KeyError) as error:
        raise CocoopError(f"{name} cannot be had: {reason(error)}") from error
    raise CocoopError(
        f"{' or '.join(WEIGHTS)} of {name} is neither in {HF_HUB_CACHE} nor to be fetched from the Hub"
    )


def _description_file(name: str) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    try:
        return _file(name, CONFIG)
    except HFValidationError:
        raise UsageError(f"{name} is no name of a model on the Hub: write hf:OWNER/NAME") from None
    except EntryNotFoundError as error:
        if isinstance(error, OSError):  # the Hub could not be asked
            raise CocoopError(f"{CONFIG} of {name} is neither in {HF_HUB_CACHE} nor to be fetched") from None
        raise CocoopError(f"{name} on the Hub has no {CONFIG}: it is no model of transformers") from None
    except OSError as error:
        raise CocoopError(f"{name} cannot be had: {reason(error)}") from error


def _file(name: str, path: str) -> str:
    """Return the local path of a file on the Hub, fetched where it is not in the cache yet."""
    from huggingface_hub import hf_hub_download

    return str(hf_hub_download(name.removeprefix(HUB), path))


def weights_cached(name: str) -> bool | None:
    """Return whether the weights of a name are on this machine; None for a folder, where none are fetched."""
    from huggingface_hub import try_to_load_from_cache

    if not name.startswith(HUB):
        return None
    files = [f"{file}{end}" for file in WEIGHTS for end in ("", ".index.json")]
    return any(isinstance(try_to_load_from_cache(name.removeprefix(HUB), file), str) for file in files)
