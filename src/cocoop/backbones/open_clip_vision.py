"""open_clip's image towers, as methods that learn inside them see these."""

from typing import Any

from open_clip.transformer import VisionTransformer as OpenClipViT
from torch import nn

from cocoop.backbones.open_clip_text import is_standard, layer_of
from cocoop.backbones.vision import VisionTransformer


def vision_parts(visual: nn.Module) -> VisionTransformer | str:
    """Return an image tower of open_clip by its parts, or why nothing can be learned inside it."""
    if reason := _reason(visual):
        return reason
    tower: Any = visual
    return VisionTransformer(
        patches=tower.conv1,
        class_token=tower.class_embedding,
        positions=tower.positional_embedding,
        norm_pre=tower.ln_pre,
        layers=tuple(layer_of(block) for block in tower.transformer.resblocks),
        heads=int(tower.transformer.resblocks[0].attn.num_heads),
        norm=tower.ln_post,
        projection=tower.proj,
    )


def _reason(visual: Any) -> str:
    """Return why learned vectors have no place in a tower; empty where they have."""
    if not isinstance(visual, OpenClipViT):
        return f"it is a {type(visual).__name__}, not CLIP's vision transformer"
    if visual.attn_pool is not None or visual.pool_type != "tok":
        return "its feature is not read at a class token"
    if visual.proj is None or not all(map(is_standard, visual.transformer.resblocks)):
        return "its transformer blocks are not CLIP's"
    return ""
