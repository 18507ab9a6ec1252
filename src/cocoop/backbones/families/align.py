"""transformers' `AlignModel`: EfficientNet and BERT (Jia et al. 2021), which CoCoOp's paper speaks of too."""

from typing import Any

from cocoop.backbones.family import FAMILIES, About
from cocoop.backbones.hub import EXTRA
from cocoop.backbones.hub_family import SPELLED, Pretrained

CONTEXT = 64  # tokens of the longest prompt of its processor


def image(model: Any) -> Any:
    """The EfficientNet, pooled over places."""
    from cocoop.backbones.image_models import Pooled

    return Pooled(model.vision_model)


def text(model: Any) -> Any:
    """The BERT, read at CLS."""
    from cocoop.backbones.text_model import TextModel, blocks_of, masked

    config = model.config.text_config
    return TextModel(
        module=model.text_model,
        encode=masked(model.get_text_features, int(config.pad_token_id)),
        embedding=model.text_model.embeddings.word_embeddings,
        blocks=blocks_of(model.text_model.encoder),
        embed_dim=int(model.config.projection_dim),
        context_length=min(CONTEXT, int(config.max_position_embeddings)),
        fixed_length=False,
        reason="its attention is not causal (BERT)",
    )


def pixels(config: Any) -> dict[str, Any]:
    """Squashed, then the centre; pixels from -1 to 1."""
    edge = int(config.vision_config.image_size)
    size = {"height": edge, "width": edge}
    return {
        "size": size,
        "resample": 2,
        "rescale_factor": 1 / 127.5,
        "rescale_offset": True,
        "do_normalize": False,
    }


FAMILIES.register("align")(
    Pretrained(
        about=About(
            name="AlignModel",
            spelled=SPELLED,
            text="padded to the longest prompt",
            extra=EXTRA,
            languages="English",
            example="hf:kakaobrain/align-base",
            paper="Jia et al. 2021",
        ),
        types=("align",),
        model="AlignModel",
        image=image,
        text=text,
        scale=lambda model: 1 / float(model.temperature.detach()),
        pixels=pixels,
    )
)
