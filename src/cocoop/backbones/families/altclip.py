"""transformers' `AltCLIPModel`: CLIP's image tower, and XLM-R for nine languages (Chen et al. 2022)."""

from typing import Any

from cocoop.backbones.family import FAMILIES, About
from cocoop.backbones.hub import EXTRA
from cocoop.backbones.hub_family import SPELLED, Pretrained
from cocoop.backbones.pixels import clip_pixels

CONTEXT = 77  # tokens of the longest prompt of its training


def image(model: Any) -> Any:
    """The vision transformer and its projection."""
    from cocoop.backbones.image_models import Pooled

    return Pooled(model.vision_model, model.visual_projection)


def text(model: Any) -> Any:
    """The XLM-R, read at its first token."""
    from cocoop.backbones.text_model import TextModel, blocks_of, masked

    config, tower = model.config.text_config, model.text_model.roberta
    return TextModel(
        module=model.text_model,
        encode=masked(model.get_text_features, int(config.pad_token_id)),
        embedding=tower.embeddings.word_embeddings,
        blocks=blocks_of(tower.encoder),
        embed_dim=int(model.config.projection_dim),
        context_length=min(CONTEXT, int(config.max_position_embeddings) - int(config.pad_token_id) - 1),
        fixed_length=False,
        reason="its attention is not causal (XLM-R)",
    )


FAMILIES.register("altclip")(
    Pretrained(
        about=About(
            name="AltCLIPModel",
            spelled=SPELLED,
            text="padded to the longest prompt",
            extra=EXTRA,
            languages="nine",
            example="hf:BAAI/AltCLIP",
            multilingual="hf:BAAI/AltCLIP",
            paper="Chen et al. 2022",
        ),
        types=("altclip",),
        model="AltCLIPModel",
        image=image,
        text=text,
        scale=lambda model: float(model.logit_scale.detach().exp()),
        pixels=clip_pixels,
    )
)
