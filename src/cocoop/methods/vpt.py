"""VPT on CLIP: learned vectors among the patches of the image tower (ECCV 2022, CLIP's by MaPLe's code)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._parts import own_template
from cocoop.methods._prompts import check_counts, image_vectors
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt


@dataclass(frozen=True)
class Config:
    """Settings of VPT.

    Attributes:
        n_ctx: M, the number of vectors.
        depth: blocks of the image tower with vectors of their own, all of the tower's at most; 1 for VPT
            "shallow", whose vectors go through all blocks.
        prompt: the hand-written prompt with `{}` for the class name; "dataset" for the dataset's own.
    """

    n_ctx: int = 8
    depth: int = 12
    prompt: str = "a photo of a {}."

    def __post_init__(self) -> None:
        check_counts(n_ctx=self.n_ctx, depth=self.depth)


@METHODS.register("vpt")
class Model(nn.Module):
    """Vectors behind the patches, replaced before each block; the texts stay as they are (section 3.2)."""

    facts = Facts(
        name="VPT",
        summary="puts learned vectors among the patches of the image, before every block of the image tower",
        paper=Paper(
            title="Visual Prompt Tuning",
            authors="Jia et al.",
            venue="ECCV 2022",
            date="2022-03",
            link="https://arxiv.org/abs/2203.12119",
            code="https://github.com/muzairkhattak/multimodal-prompt-learning",
        ),
        cut="pixels",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "vpt-released": Preset(
            Config(), Recipe(epochs=5, batch_size=4, lr=0.0025), "MaPLe's released configuration of deep VPT"
        ),
        "vpt-shallow": Preset(
            Config(depth=1),
            Recipe(epochs=5, batch_size=4, lr=0.0025),
            "the same with vectors before the first block alone",
        ),
        "vpt-quick": Preset(
            Config(), Recipe(epochs=3, batch_size=4, lr=0.0025), "fewer epochs than released, for the demo"
        ),
    }
    transferable = True
    cut: Cut = "pixels"

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.width = backbone.width
        self.prompts = (Prompt(own_template(cfg.prompt, template)),)
        self.image_ctx = nn.Parameter(image_vectors(backbone, cfg.n_ctx, cfg.depth, seed))  # (j, m, w)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def image(self, state: Float[Tensor, "b 3 h w"], tower: VisionTower) -> Float[Tensor, "b d"]:
        """Return the features of images with the vectors among their patches."""
        return tower.above(state, self.cut, dict(enumerate(self.image_ctx[:, None])))
