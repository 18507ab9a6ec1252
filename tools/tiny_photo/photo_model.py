"""The model: its open_clip configuration, its parts put together, its text features, and its export."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from minilm import MiniLM
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from photo_tower import ARCHITECTURE, DIM
from safetensors.torch import save_file
from sentences import CONTEXT
from torch import Tensor
from torch.nn import functional as F

HALF = [0.5, 0.5, 0.5]
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": DIM,
        "vision_cfg": {
            "timm_model_name": ARCHITECTURE,
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "timm_proj_bias": True,
            "image_size": 224,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": 49408,
            "width": 256,
            "heads": 4,
            "layers": 3,
            "mlp_ratio": 2.0,
        },
    },
    "preprocess_cfg": {"mean": HALF, "std": HALF, "interpolation": "bicubic", "resize_mode": "shortest"},
}
EMBEDDED = "token_embedding.weight"
# The classifier's own: a row's length times that of a feature, of the two photographs in scikit-learn.
SCALE = 17.6
LENGTH = 8.0  # of a token's vector at first
SHRUNK = (
    1 / 12
)  # so that vectors are about as long as CLIP's, for which learning rates of contexts were found


def build_model(seed: int) -> CLIP:
    """An untrained model whose weights depend on the seed alone."""
    config = CONFIG["model_cfg"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(
            embed_dim=config["embed_dim"],
            vision_cfg=CLIPVisionCfg(**config["vision_cfg"]),
            text_cfg=CLIPTextCfg(**config["text_cfg"]),
        )


def fill_image_tower(model: CLIP, trunk: dict[str, Tensor], projection: Tensor, centre: Tensor) -> None:
    """Give it a classifier's trunk, the way from its features to the joint space, and the logit scale."""
    model.visual.trunk.load_state_dict({k: v for k, v in trunk.items() if not k.startswith("classifier")})
    with torch.no_grad():
        model.visual.head.proj.weight.copy_(projection.T)
        model.visual.head.proj.bias.copy_(-centre @ projection)
        model.logit_scale.fill_(math.log(SCALE))


def shrink_texts(model: CLIP, factor: float = SHRUNK) -> None:
    """Shorten all that is added up in the text tower; layer norms undo it, so that features stay."""
    blocks = model.transformer.resblocks
    added = [part for block in blocks for part in (block.attn.out_proj, block.mlp.c_proj)]
    with torch.no_grad():
        for value in (model.token_embedding.weight, model.positional_embedding):
            value.mul_(factor)
        for part in added:
            part.weight.mul_(factor)
            part.bias.mul_(factor)


def token_vectors(encode: MiniLM, width: int) -> Tensor:
    """First vectors (v, width) of CLIP's tokens: how MiniLM reads them, in its strongest directions."""
    decoder = SimpleTokenizer().decoder
    read = encode([decoder[token].replace("</w>", "").strip() or " " for token in range(len(decoder))])
    read = read - read.mean(0)
    directions = torch.linalg.svd(read, full_matrices=False)[2][:width]
    return LENGTH * F.normalize(read @ directions.T, dim=1)


def encode_texts(model: CLIP, tokens: Tensor) -> Tensor:
    """Unit features of token rows, without the columns that are padding in all: none looks past its end."""
    ends = tokens.argmax(-1)
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(tokens)), ends]
    return F.normalize(x.float() @ model.text_projection.float(), dim=-1)


def export(state: dict[str, Tensor], folder: Path) -> None:
    """Write the folder that open_clip loads as `local-dir:`: half precision, tokens in 8 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    small = {k: v.half().contiguous() if v.is_floating_point() else v.contiguous() for k, v in state.items()}
    small[EMBEDDED] = state[EMBEDDED].to(torch.float8_e4m3fn)
    save_file(small, folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").chmod(0o644)
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
