"""CoOp: learned context vectors in place of the prompt's words (Zhou et al., IJCV 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Position, Prompt, context_template, init_context


@dataclass(frozen=True)
class Config:
    """Settings of CoOp.

    Attributes:
        ctx_init: words whose embeddings the context starts from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        position: where the class name stands: "end", "middle" or "front".
        class_specific: vectors of its own for every class (CSC); cannot be used with other classes.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    position: Position = "end"
    class_specific: bool = False


@METHODS.register("coop")
class Model(nn.Module):
    """Learned context, the same for all images (section 3.2)."""

    facts = Facts(
        name="CoOp",
        summary="replaces its words by vectors learned from a few labelled images",
        paper=Paper(
            title="Learning to Prompt for Vision-Language Models",
            authors="Zhou et al.",
            venue="IJCV 2022",
            date="2021-09",
            link="https://arxiv.org/abs/2109.01134",
            code="https://github.com/KaiyangZhou/CoOp",
        ),
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "coop-paper": Preset(
            Config(), Recipe(epochs=200, batch_size=32), "CoOp as trained in the CoCoOp paper"
        ),
        "coop-m16": Preset(
            Config(ctx_init=None, n_ctx=16),
            Recipe(epochs=200, batch_size=32),
            "the CoOp paper, section 4.1, with 8 or 16 shots",
        ),
        "coop-quick": Preset(
            Config(), Recipe(epochs=20, batch_size=32), "fewer epochs than the paper, for the demo"
        ),
    }

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        ctx = init_context(backbone, cfg.ctx_init, cfg.n_ctx, seed)
        text = context_template(cfg.ctx_init, len(ctx))
        self.prompts = (Prompt(text, len(ctx), cfg.position, cfg.class_specific),)
        self.transferable = not cfg.class_specific
        self.ctx = nn.Parameter(ctx.repeat(n_classes if cfg.class_specific else 1, 1, 1))  # (1 or c, m, w)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 #c m w"]:
        """Return the context, the same for all images."""
        return self.ctx[None]
