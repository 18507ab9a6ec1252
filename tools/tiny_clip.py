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
# The second model: tiny-clip with a vision transformer in place of its image tower.
VIT_CONFIG: dict[str, Any] = {
    **CONFIG,
    "model_cfg": {
        **CONFIG["model_cfg"],
        "vision_cfg": {"image_size": 48, "layers": 5, "width": 128, "head_width": 32, "patch_size": 8},
    },
}
MAX_LOG_SCALE = math.log(100)  # CLIP's own bound on its temperature


def build_model(seed: int, config: dict[str, Any] = CONFIG) -> CLIP:
    """An untrained model whose weights depend on the seed alone."""
    config = config["model_cfg"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(
            embed_dim=config["embed_dim"],
            vision_cfg=CLIPVisionCfg(**config["vision_cfg"]),
            text_cfg=CLIPTextCfg(**config["text_cfg"]),
            quick_gelu=config["quick_gelu"],
        )


def build_student(teacher: CLIP, seed: int) -> CLIP:
    """An untrained vision transformer beside the teacher's text tower, which stays as it is."""
    student = build_model(seed, VIT_CONFIG).requires_grad_(False)
    kept = {name: value for name, value in teacher.state_dict().items() if not name.startswith("visual.")}
    student.load_state_dict(student.state_dict() | kept)
    student.visual.requires_grad_(True)
    student.logit_scale.requires_grad_(True)
    return student


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


def apart(features: Tensor, aims: Tensor) -> Tensor:
    """One minus the mean cosine of each feature and the one it should be."""
    return 1 - F.cosine_similarity(features, aims, dim=-1).mean()


def normaliser() -> tuple[Tensor, Tensor]:
    """Mean and deviation of the preprocessing, shaped for a batch."""
    config = CONFIG["preprocess_cfg"]
    return torch.tensor(config["mean"]).view(1, 3, 1, 1), torch.tensor(config["std"]).view(1, 3, 1, 1)


def export(state: dict[str, Tensor], folder: Path, config: dict[str, Any] = CONFIG) -> None:
    """Write the folder that open_clip loads as `local-dir:`; half precision, full when loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.half().contiguous() if v.is_floating_point() else v.contiguous() for k, v in state.items()}
    weights = folder / "open_clip_model.safetensors"
    save_file(half, weights)
    weights.chmod(0o644)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def export_student(state: dict[str, Tensor], folder: Path) -> None:
    """Write the image tower and the scale alone: the text tower is in the teacher's folder."""
    own = {k: v for k, v in state.items() if k.startswith("visual.") or k == "logit_scale"}
    export(own, folder, VIT_CONFIG)
