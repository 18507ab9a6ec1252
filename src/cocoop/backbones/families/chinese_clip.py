"""transformers' `ChineseCLIPModel`: a vision transformer and Chinese RoBERTa (Yang et al. 2022)."""

from typing import Any

from cocoop.backbones.family import FAMILIES, About
from cocoop.backbones.hub import EXTRA
from cocoop.backbones.hub_family import SPELLED, Pretrained
from cocoop.backbones.pixels import CLIP_PIXELS

CONTEXT = 52  # tokens of the longest prompt of its training


def image(model: Any) -> Any:
    """The vision transformer and its projection."""
    from cocoop.backbones.image_models import Pooled

    return Pooled(model.vision_model, model.visual_projection)


def text(model: Any) -> Any:
    """The BERT, read at CLS."""
    from cocoop.backbones.text_model import TextModel, blocks_of, masked

    config, tower = model.config.text_config, model.text_model
    return TextModel(
        module=tower,
        encode=masked(model.get_text_features, int(config.pad_token_id)),
        embedding=tower.embeddings.word_embeddings,
        blocks=blocks_of(tower.encoder),
        embed_dim=int(model.config.projection_dim),
        context_length=min(CONTEXT, int(config.max_position_embeddings)),
        fixed_length=False,
        reason="its attention is not causal (BERT)",
    )


def pixels(config: Any) -> dict[str, Any]:
    """Squashed to a square, as the released code does."""
    edge = int(config.vision_config.image_size)
    return {**CLIP_PIXELS, "size": {"height": edge, "width": edge}}


FAMILIES.register("chinese_clip")(
    Pretrained(
        about=About(
            name="ChineseCLIPModel",
            spelled=SPELLED,
            text="padded to the longest prompt",
            extra=EXTRA,
            languages="Chinese",
            example="hf:OFA-Sys/chinese-clip-vit-base-patch16",
            paper="Yang et al. 2022",
        ),
        types=("chinese_clip",),
        model="ChineseCLIPModel",
        image=image,
        text=text,
        scale=lambda model: float(model.logit_scale.detach().exp()),
        pixels=pixels,
    )
)
