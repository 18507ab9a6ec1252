"""CoCoOp: a shared context, shifted by a vector that the Meta-Net computes from the image (CVPR 2022)."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt, context_template, init_context
from cocoop.utils.seeding import seeded


@dataclass(frozen=True)
class Config:
    """Settings of CoCoOp (section 4.1).

    Attributes:
        ctx_init: words whose embeddings the context starts from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        reduction: the Meta-Net's hidden layer is this many times smaller than the image feature.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    reduction: int = 16

    def __post_init__(self) -> None:
        if self.reduction < 1:
            raise UsageError(f"reduction must be at least 1, not {self.reduction}")


PAPER = Paper(
    title="Conditional Prompt Learning for Vision-Language Models",
    authors="Zhou et al.",
    venue="CVPR 2022",
    date="2022-03",
    link="https://arxiv.org/abs/2203.05557",
    code="https://github.com/KaiyangZhou/CoOp",
)


def meta_net(embed_dim: int, width: int, reduction: int, seed: int) -> nn.Sequential:
    """Return an untrained Meta-Net: image features to shifts of context vectors (section 3.2)."""
    hidden = max(1, embed_dim // reduction)
    with seeded(seed):
        return nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(embed_dim, hidden),
                relu=nn.ReLU(),
                linear2=nn.Linear(hidden, width),
            )
        )


@METHODS.register("cocoop")
class Model(nn.Module):
    """Context conditioned on each image: v_m(x) = v_m + h(x), h the Meta-Net (section 3.2)."""

    facts = Facts(
        name="CoCoOp",
        summary="shifts the learned vectors by what a small network, the Meta-Net, sees in each image",
        paper=PAPER,
        conditional=True,
        extends="coop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "cocoop-paper": Preset(Config(), Recipe(epochs=10, batch_size=1), "the CoCoOp paper, section 4.1"),
        "cocoop-quick": Preset(
            Config(), Recipe(epochs=3, batch_size=1), "fewer epochs than the paper, for the demo"
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        ctx = init_context(backbone, cfg.ctx_init, cfg.n_ctx, seed)
        self.prompts = (Prompt(context_template(cfg.ctx_init, len(ctx)), len(ctx)),)
        self.ctx = nn.Parameter(ctx)  # (m, w)
        self.meta_net = meta_net(backbone.embed_dim, backbone.width, cfg.reduction, seed)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "b 1 m w"]:
        """Shift every context vector by the Meta-Net's answer to the image."""
        return self.from_hidden(self.hidden(zimg))

    def hidden(self, zimg: Float[Tensor, "b d"]) -> Float[Tensor, "b r"]:
        """Return the Meta-Net's hidden layer."""
        return self.meta_net[:-1](zimg)

    def from_hidden(self, hidden: Float[Tensor, "b r"]) -> Float[Tensor, "b 1 m w"]:
        """Shift every context vector by what the Meta-Net makes of its hidden layer."""
        return (self.ctx + self.meta_net[-1](hidden)[:, None])[:, None]
