"""transformers' `CLIPModel`: the text tower is CLIP's, so that a token tree is exact."""

from typing import Any

from cocoop.backbones.family import FAMILIES, About
from cocoop.backbones.hub import EXTRA
from cocoop.backbones.hub_family import SPELLED, Pretrained
from cocoop.backbones.pixels import clip_pixels

OLD_EOS = 2  # of configurations that say this by mistake: such towers read the largest token


def image(model: Any) -> Any:
    """The vision transformer and its projection."""
    from cocoop.backbones.image_models import Pooled

    return Pooled(model.vision_model, model.visual_projection)


def text(model: Any) -> Any:
    """The causal text tower, read at EOT."""
    from cocoop.backbones.text_model import TextModel, blocks_of

    tower, eos = model.text_model, int(model.config.text_config.eos_token_id)
    return TextModel(
        module=tower,
        encode=lambda tokens: model.get_text_features(input_ids=tokens).pooler_output,
        embedding=tower.embeddings.token_embedding,
        blocks=blocks_of(tower.encoder),
        embed_dim=int(model.config.projection_dim),
        context_length=int(model.config.text_config.max_position_embeddings),
        fixed_length=False,
        read_at=-1 if eos == OLD_EOS else eos,
        transformer=lambda: _parts(model),
    )


def _parts(model: Any) -> Any:
    from cocoop.backbones.text_model import CausalTransformer

    tower, quick = model.text_model, model.config.text_config.hidden_act == "quick_gelu"
    return CausalTransformer(
        positions=tower.embeddings.position_embedding.weight,
        layers=tuple(_layer(layer, quick) for layer in tower.encoder.layers),
        heads=int(model.config.text_config.num_attention_heads),
        norm=tower.final_layer_norm,
        projection=model.text_projection,
    )


def vision(model: Any) -> Any:
    """The vision transformer by its parts."""
    from cocoop.backbones.vision import VisionTransformer

    tower, config = model.vision_model, model.config.vision_config
    return VisionTransformer(
        patches=tower.embeddings.patch_embedding,
        class_token=tower.embeddings.class_embedding,
        positions=tower.embeddings.position_embedding.weight,
        norm_pre=tower.pre_layrnorm,
        layers=tuple(_layer(layer, config.hidden_act == "quick_gelu") for layer in tower.encoder.layers),
        heads=int(config.num_attention_heads),
        norm=tower.post_layernorm,
        projection=model.visual_projection.weight.T,
    )


def _layer(layer: Any, quick: bool) -> Any:
    import torch
    from torch import nn

    from cocoop.backbones.text_model import Layer

    attention = layer.self_attn
    each = (attention.q_proj, attention.k_proj, attention.v_proj)
    with torch.device("meta"):
        qkv = nn.Linear(attention.embed_dim, 3 * attention.embed_dim)
    for name in ("weight", "bias"):
        joined = torch.cat([getattr(part, name) for part in each])
        setattr(qkv, name, nn.Parameter(joined, requires_grad=False))
    return Layer(
        norm_1=layer.layer_norm1,
        qkv=qkv,
        out=attention.out_proj,
        scale_1=nn.Identity(),
        norm_2=layer.layer_norm2,
        widen=layer.mlp.fc1,
        activation=None if quick else layer.mlp.activation_fn,
        narrow=layer.mlp.fc2,
        scale_2=nn.Identity(),
    )


FAMILIES.register("hf_clip")(
    Pretrained(
        about=About(
            name="CLIPModel",
            spelled=SPELLED,
            text="token tree",
            extra=EXTRA,
            languages="English",
            example="hf:openai/clip-vit-base-patch16",
            paper="Radford et al. 2021",
        ),
        types=("clip",),
        model="CLIPModel",
        image=image,
        text=text,
        scale=lambda model: float(model.logit_scale.detach().exp()),
        pixels=clip_pixels,
        vision=vision,
    )
)
