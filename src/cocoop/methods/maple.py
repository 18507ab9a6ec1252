"""MaPLe: deep prompts of both towers, the image's made of the text's (Khattak et al., CVPR 2023)."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._prompts import check_counts, text_vectors
from cocoop.methods._recipe import Preset, Recipe
from cocoop.utils.seeding import seeded


@dataclass(frozen=True)
class Config:
    """Settings of MaPLe.

    Attributes:
        ctx_init: words whose first embeddings the vectors start from, or None for random vectors.
        n_ctx: M, the number of vectors before each block.
        depth: J, blocks of both towers with vectors of their own, those of the shorter tower at most.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 2
    depth: int = 9

    def __post_init__(self) -> None:
        check_counts(n_ctx=self.n_ctx, depth=self.depth)


@METHODS.register("maple")
class Model(nn.Module):
    """Text vectors before the blocks; linear maps of these are the image's (sections 3.2.1 to 3.2.3)."""

    facts = Facts(
        name="MaPLe",
        summary="learns vectors before the blocks of the text tower, and linear maps that make those of the "
        "image tower of them",
        paper=Paper(
            title="MaPLe: Multi-modal Prompt Learning",
            authors="Khattak et al.",
            venue="CVPR 2023",
            date="2022-10",
            link="https://arxiv.org/abs/2210.03117",
            code="https://github.com/muzairkhattak/multimodal-prompt-learning",
        ),
        cut="pixels",
        extends="ivlp",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "maple-released": Preset(
            Config(), Recipe(epochs=5, batch_size=4, lr=0.0035), "the released base-to-new configuration"
        ),
        "maple-transfer": Preset(
            Config(depth=3),
            Recipe(epochs=2, batch_size=4, lr=0.0026),
            "the released cross-dataset configuration of ImageNet",
        ),
        "maple-quick": Preset(
            Config(), Recipe(epochs=3, batch_size=4, lr=0.0035), "fewer epochs than released, for the demo"
        ),
    }
    transferable = True
    cut: Cut = "pixels"

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        tower = backbone.vision
        depth = min(cfg.depth, len(tower.blocks))
        ctx, prompt = text_vectors(backbone, cfg.ctx_init, cfg.n_ctx, depth, seed)
        self.prompts = (prompt,)
        self.ctx = nn.Parameter(ctx)  # (j, m, w)
        with seeded(seed):
            first, deeper = (nn.Linear(backbone.width, tower.width) for _ in range(2))
        copies = (deepcopy(deeper) for _ in range(len(ctx) - 1))  # which start alike, as released
        self.couplings = nn.ModuleList([first, *copies])

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 jm w"]:
        """Return the vectors of every block in turn, the same for all images and classes."""
        return self.ctx.flatten(0, 1)[None, None]

    def image(self, state: Float[Tensor, "b 3 h w"], tower: VisionTower) -> Float[Tensor, "b d"]:
        """Return the features of images with the coupled vectors among their patches."""
        coupled = (couple(vectors) for couple, vectors in zip(self.couplings, self.ctx[:, None], strict=True))
        return tower.above(state, self.cut, dict(enumerate(coupled)))
