"""Every architecture of open_clip, built without values and asked for an image's and a text's feature.

    python tools/architectures.py > docs/architectures.md

Nothing is fetched: text towers of transformers are built from the sizes that their authors published.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from docs_tables import table

from cocoop.backbones.family import Skeleton, find
from cocoop.backbones.open_clip_text import text_model
from cocoop.backbones.pretrained import text_path

ROBERTA = {"model_type": "roberta", "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
MT5 = {"model_type": "mt5", "vocab_size": 250112, "d_kv": 64, "is_encoder_decoder": True, "pad_token_id": 0}
NLLB = {
    "model_type": "m2m_100", "vocab_size": 256206, "d_model": 1024, "encoder_attention_heads": 16,
    "decoder_attention_heads": 16, "max_position_embeddings": 1024, "scale_embedding": True,
    "pad_token_id": 1, "is_encoder_decoder": True,
}  # fmt: skip
SMALL = {"vocab_size": 50, "num_hidden_layers": 1, "num_layers": 1, "encoder_layers": 1, "decoder_layers": 1}
TOWERS: dict[str, dict[str, Any]] = {
    "roberta-base": ROBERTA | BASE | {"vocab_size": 50265},
    "xlm-roberta-base": ROBERTA | BASE | {"vocab_size": 250002, "model_type": "xlm-roberta"},
    "xlm-roberta-large": ROBERTA | LARGE | {"vocab_size": 250002, "model_type": "xlm-roberta"},
    "google/mt5-base": MT5 | {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "google/mt5-xl": MT5 | {"d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32},
    "facebook/nllb-200-distilled-600M": NLLB
    | {"encoder_layers": 12, "decoder_layers": 12, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096},
    "facebook/nllb-200-distilled-1.3B": NLLB
    | {"encoder_layers": 24, "decoder_layers": 24, "encoder_ffn_dim": 8192, "decoder_ffn_dim": 8192},
}
HEAD = (
    "architecture",
    "text path",
    "image",
    "width",
    "embedding",
    "context",
    "tokens",
    "M parameters",
    "needs",
)
PAGE = """# Architectures of open_clip

Every architecture that open_clip {version} lists, built without values, both towers asked for a feature; text towers of
transformers with values, of one block. How each is named, and what else can be loaded: [Backbones](backbones.md). *Token tree*:
every distinct token is computed once. *Padded*: the tower's own forward over padded prompts, to the longest of them, or
over the *whole context* where the feature depends on the padding. `hf` is the extra: `pip install 'cocoop[hf]'`.
None is refused. Made by `python tools/architectures.py`.
"""  # noqa: E501


def skeleton(name: str) -> Skeleton:
    """Build an architecture without values, its text tower from TOWERS where transformers has it."""
    config = open_clip.get_model_config(name)
    with tempfile.TemporaryDirectory() as folder:
        if tower := config["text_cfg"].get("hf_model_name"):
            config["text_cfg"]["hf_model_name"] = described(Path(folder), TOWERS[tower])
        (Path(folder) / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        built = find(folder).skeleton()
    assert built is not None
    return built


def described(folder: Path, tower: dict[str, Any]) -> str:
    """Write what transformers needs to build a text tower; return the folder."""
    place = folder / "tower"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(tower))
    return str(place)


def small_features(name: str) -> torch.Tensor:
    """Return the feature of a text by a tower of transformers, with values, of one block."""
    config = open_clip.get_model_config(name)
    text = config["text_cfg"] | {"hf_model_pretrained": False}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 32}
    with tempfile.TemporaryDirectory() as folder:
        text["hf_model_name"] = described(Path(folder), TOWERS[text["hf_model_name"]] | SMALL)
        model = open_clip.CustomTextCLIP(config["embed_dim"], vision, text)
    return text_model(model).encode(torch.full((1, 8), 5))


def row(name: str) -> tuple[str, ...]:
    """Return what the page says of an architecture, once it has encoded an image and a text."""
    built, config = skeleton(name), open_clip.get_model_config(name)
    text, model = built.text, built.model.eval()
    with torch.no_grad(), torch.device("meta"):
        image = nn.Module.__call__(model.visual, torch.zeros(1, 3, *built.pixels))
        if text.fixed_length:
            features = text.encode(torch.full((1, text.context_length), 5))
    if not text.fixed_length:
        features = small_features(name)
    seen = (image[0] if isinstance(image, tuple) else image).shape
    assert features.shape == seen == (1, text.embed_dim), (name, features.shape, seen)
    path = text_path(config)
    assert (path == "token tree") == bool(text.transformer), name
    assert (path == "padded, whole context") == (text.fixed_length and not text.transformer), name
    pixels = "x".join(map(str, dict.fromkeys(built.pixels)))
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    sizes = (text.width, text.embed_dim, text.context_length)
    needs = "`hf`" if {"hf_model_name", "hf_tokenizer_name"} & config["text_cfg"].keys() else ""
    return (f"`{name}`", path, pixels, *map(str, sizes), f"{text.vocabulary:,}", f"{count:,.0f}", needs)


def page(names: list[str] | None = None) -> Iterator[str]:
    """Yield the lines of the page."""
    yield PAGE.format(version=open_clip.__version__)
    yield table(HEAD, [row(name) for name in names or open_clip.list_models()])


if __name__ == "__main__":
    print("\n".join(page()))
