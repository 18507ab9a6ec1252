"""The small CLIP: its open_clip configuration, a short-text encoder, its loss, and its export."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 48, "layers": [2, 2, 2, 2], "width": 16, "patch_size": None},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 4},
    },
    "preprocess_cfg": {
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
MAX_LOG_SCALE = math.log(100)  # CLIP's own bound on its temperature


def build_model(seed: int) -> CLIP:
    """An untrained model whose weights depend on the seed alone."""
    config = CONFIG["model_cfg"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(
            embed_dim=config["embed_dim"],
            vision_cfg=CLIPVisionCfg(**config["vision_cfg"]),
            text_cfg=CLIPTextCfg(**config["text_cfg"]),
            quick_gelu=config["quick_gelu"],
        )


def encode_short_text(model: CLIP, tokens: Tensor) -> Tensor:
    """Like `encode_text` on cut tokens: causal attention never looks past the end of a caption."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(tokens), device=tokens.device), tokens.argmax(-1)]
    return F.normalize(x.float() @ model.text_projection.float(), dim=-1)


def cut_padding(tokens: Tensor) -> Tensor:
    """Token rows without the columns that are padding in every row."""
    return tokens[:, : int(tokens.argmax(-1).max()) + 1]


def multi_positive_loss(images: Tensor, texts: Tensor, names: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss where every caption of the same name is right, each as much as the others."""
    same = (names[:, None] == names[None, :]).float()
    target = same / same.sum(1, keepdim=True)
    logits = scale * images @ texts.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def normaliser() -> tuple[Tensor, Tensor]:
    """Mean and deviation of the preprocessing, shaped for a batch."""
    config = CONFIG["preprocess_cfg"]
    return torch.tensor(config["mean"]).view(1, 3, 1, 1), torch.tensor(config["std"]).view(1, 3, 1, 1)


def export(state: dict[str, Tensor], folder: Path) -> None:
    """Write the folder that open_clip loads as `local-dir:`; half precision, full when loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.half().contiguous() if v.is_floating_point() else v.contiguous() for k, v in state.items()}
    weights = folder / "open_clip_model.safetensors"
    save_file(half, weights)
    weights.chmod(0o644)
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
