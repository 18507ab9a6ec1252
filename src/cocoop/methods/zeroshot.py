"""Zero-shot CLIP: nothing is learned, the prompt is a hand-written template (Radford et al., 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbone import Backbone
from cocoop.methods import METHODS
from cocoop.prompts import Prompt
from cocoop.recipe import Preset


@dataclass(frozen=True)
class Config:
    """Settings of zero-shot CLIP.

    Attributes:
        templates: prompts with `{}` for the class name; several are an ensemble whose normalised text
            features are averaged. Empty: the dataset's own template.
    """

    templates: tuple[str, ...] = ()


@METHODS.register("zeroshot")
class ZeroShot(nn.Module):
    """Hand-written templates; nothing is learned."""

    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "zeroshot": Preset(Config(), None, "CLIP (Radford et al., 2021), the dataset's own template")
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.width = backbone.width
        self.prompts = tuple(Prompt(text) for text in cfg.templates or (template,))

    def forward(self, zimg: Float[Tensor, "b d"]) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)
