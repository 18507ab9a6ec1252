"""transformers' `SiglipModel` and `Siglip2Model`: SigLIP and SigLIP 2.

The text tower is bidirectional and reads its feature at the last of 64 places, padding as a rule: prompts
always have the whole length (Zhai et al. 2023, section 4).

`Siglip2Model` is SigLIP 2 in its NaFlex variant, whose image tower takes patches of any grid. Its own
processing keeps an image's proportions in the grid. Here the grid is square, as in the variants with a fixed
size, so that images are of one shape and can be cached and exported.
"""

from functools import partial
from typing import Any

from cocoop.backbones.family import FAMILIES, About
from cocoop.backbones.hub import EXTRA
from cocoop.backbones.hub_family import SPELLED, Pretrained
from cocoop.backbones.pixels import CLIP_PIXELS

HALF = (0.5, 0.5, 0.5)  # mean and deviation of its pixels


def image(model: Any) -> Any:
    """The vision transformer with its pooling by attention."""
    from cocoop.backbones.image_models import Pooled

    return Pooled(model.vision_model)


def flexible_image(model: Any) -> Any:
    """The vision transformer of the NaFlex variant, over a square grid of patches."""
    from cocoop.backbones.image_models import Pooled

    return Pooled(model.vision_model, inputs=partial(_patches, int(model.config.vision_config.patch_size)))


def _patches(edge: int, images: Any) -> dict[str, Any]:
    """Cut images (b, 3, h, w) into patches, row by row, channels last."""
    import torch

    rows, columns = images.shape[2] // edge, images.shape[3] // edge
    patches = images.unflatten(3, (columns, edge)).unflatten(2, (rows, edge)).permute(0, 2, 4, 3, 5, 1)
    count = len(images)
    return {
        "pixel_values": patches.reshape(count, rows * columns, -1),
        "pixel_attention_mask": torch.ones(count, rows * columns, dtype=torch.long, device=images.device),
        "spatial_shapes": torch.tensor([[rows, columns]], device=images.device).expand(count, 2),
    }


def text(model: Any) -> Any:
    """The bidirectional text tower, read at the last place."""
    from cocoop.backbones.text_model import TextModel, blocks_of

    tower, config = model.text_model, model.config.text_config
    return TextModel(
        module=tower,
        encode=lambda tokens: model.get_text_features(input_ids=tokens).pooler_output,
        embedding=tower.embeddings.token_embedding,
        blocks=blocks_of(tower.encoder),
        embed_dim=int(config.projection_size),
        context_length=int(config.max_position_embeddings),
        fixed_length=True,
        reason="its attention is not causal, and its feature is read behind the padding",
    )


def pixels(config: Any) -> dict[str, Any]:
    """Squashed to a square, bilinear."""
    edge = int(config.vision_config.image_size)
    size = {"height": edge, "width": edge}
    return {**CLIP_PIXELS, "size": size, "image_mean": HALF, "image_std": HALF}


def flexible_pixels(config: Any) -> dict[str, Any]:
    """Squashed to the square that its most patches fill."""
    vision = config.vision_config
    edge = int(vision.num_patches**0.5) * int(vision.patch_size)
    size = {"height": edge, "width": edge}
    return {**CLIP_PIXELS, "size": size, "image_mean": HALF, "image_std": HALF, "resample": 2}


FAMILIES.register("siglip")(
    Pretrained(
        about=About(
            name="SiglipModel",
            spelled=SPELLED,
            text="padded to its fixed length",
            extra=EXTRA,
            languages="SigLIP English, SigLIP 2 and i18n many",
            example="hf:google/siglip-base-patch16-224",
            multilingual="hf:google/siglip2-base-patch16-224",
            paper="Zhai et al. 2023, Tschannen et al. 2025",
        ),
        types=("siglip",),
        model="SiglipModel",
        image=image,
        text=text,
        scale=lambda model: float(model.logit_scale.detach().exp()),
        bias=lambda model: float(model.logit_bias.detach()),
        pixels=pixels,
    )
)

FAMILIES.register("siglip2")(
    Pretrained(
        about=About(
            name="Siglip2Model",
            spelled=SPELLED,
            text="padded to its fixed length",
            extra=EXTRA,
            languages="many",
            example="hf:google/siglip2-base-patch16-naflex",
            multilingual="hf:google/siglip2-base-patch16-naflex",
            paper="Tschannen et al. 2025",
        ),
        types=("siglip2",),
        model="Siglip2Model",
        image=flexible_image,
        text=text,
        scale=lambda model: float(model.logit_scale.detach().exp()),
        bias=lambda model: float(model.logit_bias.detach()),
        pixels=flexible_pixels,
    )
)
