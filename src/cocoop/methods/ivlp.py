"""Independent vision-language prompting: learned vectors in both towers (a baseline of MaPLe, CVPR 2023)."""

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
from cocoop.methods._prompts import check_counts, image_vectors, text_vectors
from cocoop.methods._recipe import Preset, Recipe


@dataclass(frozen=True)
class Config:
    """Settings of independent vision-language prompting.

    Attributes:
        ctx_init: words whose first embeddings the text vectors start from, or None for random vectors.
        n_ctx: M, the number of text vectors before each block.
        depth: blocks of the text tower with vectors of their own, all of the tower's at most.
        n_ctx_image: the number of image vectors before each block.
        depth_image: blocks of the image tower with vectors of their own, all of the tower's at most.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 2
    depth: int = 12
    n_ctx_image: int = 2
    depth_image: int = 12

    def __post_init__(self) -> None:
        check_counts(
            n_ctx=self.n_ctx, depth=self.depth, n_ctx_image=self.n_ctx_image, depth_image=self.depth_image
        )


@METHODS.register("ivlp")
class Model(nn.Module):
    """Vectors before the blocks of either tower, which know nothing of the other's (section 4.2)."""

    facts = Facts(
        name="IVLP",
        summary="learns vectors before the blocks of both towers, each tower's on their own",
        paper=Paper(
            title="MaPLe: Multi-modal Prompt Learning",
            authors="Khattak et al.",
            venue="CVPR 2023",
            date="2022-10",
            link="https://arxiv.org/abs/2210.03117",
            code="https://github.com/muzairkhattak/multimodal-prompt-learning",
        ),
        cut="pixels",
        extends="deep-language",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "ivlp-released": Preset(
            Config(), Recipe(epochs=5, batch_size=4, lr=0.0035), "MaPLe's released configuration"
        ),
        "ivlp-promptsrc": Preset(
            Config(n_ctx=4, depth=9, n_ctx_image=4, depth_image=9),
            Recipe(epochs=20, batch_size=4, lr=0.0025),
            "PromptSRC's released configuration of its baseline",
        ),
        "ivlp-quick": Preset(
            Config(), Recipe(epochs=3, batch_size=4, lr=0.0035), "fewer epochs than released, for the demo"
        ),
    }
    transferable = True
    cut: Cut = "pixels"

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        ctx, prompt = text_vectors(backbone, cfg.ctx_init, cfg.n_ctx, cfg.depth, seed)
        self.prompts = (prompt,)
        self.ctx = nn.Parameter(ctx)  # (j, m, w)
        self.image_ctx = nn.Parameter(image_vectors(backbone, cfg.n_ctx_image, cfg.depth_image, seed))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 jm w"]:
        """Return the text vectors of every block in turn, the same for all images and classes."""
        return self.ctx.flatten(0, 1)[None, None]

    def image(self, state: Float[Tensor, "b 3 h w"], tower: VisionTower) -> Float[Tensor, "b d"]:
        """Return the features of images with the image vectors among their patches."""
        return tower.above(state, self.cut, dict(enumerate(self.image_ctx[:, None])))
