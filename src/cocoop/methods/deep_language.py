"""Deep language prompting: learned vectors before every block of the text tower (MaPLe, CVPR 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._prompts import TEXT, drawn
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt, context_template, init_context


@dataclass(frozen=True)
class Config:
    """Settings of deep language prompting.

    Attributes:
        ctx_init: words whose embeddings the first vectors start from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        depth: transformer blocks with vectors of their own, all of the tower's at most.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    depth: int = 12

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise UsageError(f"depth must be at least 1, not {self.depth}")


@METHODS.register("deep-language")
class Model(nn.Module):
    """Learned context that is replaced before each block: MaPLe's text branch on its own (section 3.2.1)."""

    facts = Facts(
        name="deep language prompting",
        summary="is CoOp with vectors of their own before every block of the text tower",
        paper=Paper(
            title="MaPLe: Multi-modal Prompt Learning",
            authors="Khattak et al.",
            venue="CVPR 2023",
            date="2022-10",
            link="https://arxiv.org/abs/2210.03117",
            code="https://github.com/muzairkhattak/multimodal-prompt-learning",
        ),
        extends="coop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "deep-language-released": Preset(
            Config(), Recipe(epochs=5, batch_size=4, lr=0.0025), "the released configuration"
        ),
        "deep-language-quick": Preset(
            Config(), Recipe(epochs=3, batch_size=4, lr=0.0025), "fewer epochs than released, for the demo"
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        ctx = init_context(backbone, cfg.ctx_init, cfg.n_ctx, seed)
        deeper = min(cfg.depth, len(backbone.text.blocks)) - 1
        self.prompts = (Prompt(context_template(cfg.ctx_init, len(ctx)), len(ctx)),)
        self.ctx = nn.Parameter(ctx)  # (m, w)
        self.deeper = nn.Parameter(drawn(seed, TEXT, deeper, *ctx.shape))  # (j - 1, m, w)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 jm w"]:
        """Return the vectors of every block in turn, the same for all images and classes."""
        return torch.cat([self.ctx[None], self.deeper.to(self.ctx)]).flatten(0, 1)[None, None]
