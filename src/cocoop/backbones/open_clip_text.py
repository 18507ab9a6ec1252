"""open_clip's text towers, its own and those of transformers, as prompt learning sees them."""

from typing import Any, cast

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from cocoop.backbones.pretrained import EOT_POOLS
from cocoop.backbones.text_model import CausalTransformer, Layer, TextModel, blocks_of

CONTEXT = 77  # of open_clip's tokenizers for towers of transformers, where the architecture says nothing


def text_model(model: nn.Module, context_length: int = CONTEXT) -> TextModel:
    """Return the text tower of an open_clip model of any class.

    Args:
        model: a `CLIP`, `CustomTextCLIP` or `CoCa`.
        context_length: for towers of transformers, which would read longer texts than they were trained on.
    """
    text: Any = getattr(model, "text", model)
    if hasattr(text, "pooler"):
        return _of_transformers(text, context_length)
    reason = _reason(text)
    return TextModel(
        module=text,
        encode=_encode(model, text),
        embedding=text.token_embedding,
        blocks=tuple(text.transformer.resblocks),
        embed_dim=_embed_dim(text),
        context_length=int(text.context_length),
        fixed_length=True,
        read_at=_read_at(text),
        transformer=None if reason else lambda: _parts(text),
        reason=reason,
    )


def _of_transformers(text: Any, context_length: int) -> TextModel:
    last = text.proj[-1] if isinstance(text.proj, nn.Sequential) else text.proj
    embedding = text.transformer.get_input_embeddings()
    return TextModel(
        module=text,
        encode=_encode(text, text),
        embedding=embedding,
        blocks=blocks_of(text.transformer),
        embed_dim=int(getattr(last, "out_features", embedding.weight.shape[1])),
        context_length=context_length,
        fixed_length=False,
        reason="its text tower is one of transformers, bidirectional",
    )


def _encode(model: Any, text: Any) -> Any:
    def encode(tokens: Tensor) -> Tensor:
        features = (
            model.encode_text(tokens) if text is model and hasattr(model, "encode_text") else text(tokens)
        )
        return cast(Tensor, features[0] if isinstance(features, tuple) else features)

    return encode


def _embed_dim(text: Any) -> int:
    projection = text.text_projection
    if projection is None:
        return int(text.token_embedding.weight.shape[1])
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1])


def _read_at(text: Any) -> int:
    """Return the token that the feature is read at; -1 for the largest."""
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    return int(getattr(text, "text_eos_id", getattr(text, "eos_id", -1))) if pool == "eos" else -1


def _parts(text: Any) -> CausalTransformer:
    layers = tuple(layer_of(block) for block in text.transformer.resblocks)
    return CausalTransformer(
        positions=text.positional_embedding,
        layers=layers,
        heads=int(text.transformer.resblocks[0].attn.num_heads),
        norm=text.ln_final,
        projection=text.text_projection,
    )


def layer_of(block: Any) -> Layer:
    """Return a standard residual block of open_clip by its parts."""
    attention, mlp = block.attn, block.mlp
    with torch.device("meta"):
        qkv = nn.Linear(attention.embed_dim, 3 * attention.embed_dim)
    qkv.weight, qkv.bias = attention.in_proj_weight, attention.in_proj_bias
    return Layer(
        norm_1=block.ln_1,
        qkv=qkv,
        out=attention.out_proj,
        scale_1=block.ls_1,
        norm_2=block.ln_2,
        widen=mlp.c_fc,
        activation=None if isinstance(mlp.gelu, QuickGELU) else mlp.gelu,
        narrow=mlp.c_proj,
        scale_2=block.ls_2,
    )


def _reason(text: Any) -> str:
    """Return why a token tree is not exact for one of open_clip's own towers; empty where it is."""
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    if getattr(text, "cls_emb", None) is not None:
        return "it appends a class token of its own (CoCa)"
    if pool not in EOT_POOLS:
        return f"its feature is pooled by {pool!r}, not read at the end-of-text token"
    if text.attn_mask is None or not _is_causal(text.attn_mask):
        return "its attention is not causal"
    if not all(is_standard(block) for block in text.transformer.resblocks):
        return "its transformer blocks are not CLIP's"
    return ""


def _is_causal(mask: Tensor) -> bool:
    if mask.is_meta:  # a model without values; open_clip makes no other masks
        return True
    future = torch.ones_like(mask, dtype=torch.bool).triu(1)
    return bool((mask[future] == -torch.inf).all() and (mask[~future] == 0).all())


def is_standard(block: Any) -> bool:
    """Whether a residual block is CLIP's, in either tower."""
    parts = ("ln_1", "attn", "ls_1", "ln_2", "mlp", "ls_2")
    return all(hasattr(block, part) for part in parts) and isinstance(block.attn, nn.MultiheadAttention)
