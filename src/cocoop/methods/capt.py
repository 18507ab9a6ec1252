"""CaPT on CoOp: learned vectors shifted for every class by its frozen text feature (Zhang et al., 2025)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._parts import DATASET, Draws, own_template
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt, context_template, init_context
from cocoop.utils.seeding import seeded


@dataclass(frozen=True)
class Config:
    """Settings of CaPT on CoOp.

    Attributes:
        ctx_init: words whose embeddings the context starts from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        template: the hand-written prompt whose raw feature tells a class; "dataset" for the dataset's own.
        scale: κ, of these features.
        hidden: width of the network's hidden layer.
        dropout: share of the hidden values that a step leaves out.
        margin: of all wrong classes together, were they as similar to the true one as it is to itself.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    template: str = DATASET
    scale: float = 0.5
    hidden: int = 32
    dropout: float = 0.1
    margin: float = 0.0031

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise UsageError(f"hidden must be at least 1, not {self.hidden}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be from 0 to less than 1, not {self.dropout}")


@METHODS.register("capt")
class Model(nn.Module):
    """Context conditioned on each class: v_m(c) = v_m + MLP(κ t_c), t_c CLIP's own text feature."""

    facts = Facts(
        name="CaPT",
        summary="is CoOp whose vectors are shifted for every class by what a small network makes of its name",
        paper=Paper(
            title="A Closer Look at Conditional Prompt Tuning for Vision-Language Models",
            authors="Zhang et al.",
            venue="arXiv 2025",
            date="2025-06",
            link="https://arxiv.org/abs/2506.23856",
            code="https://github.com/Koorye/CaPT",
        ),
        extends="coop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "capt-released": Preset(
            Config(), Recipe(epochs=10, batch_size=4, lr=0.0035), "the released configuration on CoOp"
        ),
    }
    transferable = True  # the names that are candidates have text features of their own

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        ctx = init_context(backbone, cfg.ctx_init, cfg.n_ctx, seed)
        self.scale, self.dropout, self.margin = cfg.scale, cfg.dropout, cfg.margin
        self.prompts = (Prompt(context_template(cfg.ctx_init, len(ctx)), len(ctx), class_specific=True),)
        self.texts = {"class": (own_template(cfg.template, template),)}
        self.ctx = nn.Parameter(ctx)  # (m, w)
        with seeded(seed):
            self.down = _linear(backbone.embed_dim, cfg.hidden)
            self.up = _linear(cfg.hidden, backbone.width)
        self.draws = Draws(seed)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 c m w"]:
        """Shift every context vector by the network's answer to the class, the same for all images."""
        hidden = F.leaky_relu(self.down(self.scale * text["class"][0].to(self.ctx)))
        if self.training and self.dropout:
            kept = torch.rand(hidden.shape, generator=self.draws()) >= self.dropout
            hidden = hidden * kept.to(hidden) / (1 - self.dropout)
        return (self.ctx + self.up(hidden)[:, None])[None]

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross-entropy after a margin by similarity.

        The cosine of wrong class j to the image loses sim(y, j) margin / (c - 1), the true one gains what all
        others lose, so that, unlike with most margins, the task becomes easier. The released code scales by
        100, which is CLIP's logit scale.
        """
        own = F.normalize(out.text["class"][0], dim=-1)
        true = F.one_hot(labels, len(own)).to(out.logits)
        lost = (1 - true) * (own[labels] @ own.T) * self.margin / max(1, len(own) - 1)
        moved = out.logits + out.logit_scale * (true * lost.sum(1, keepdim=True) - lost)
        return {"cross-entropy": F.cross_entropy(moved, labels)}


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a layer whose weights and biases are uniform within 1/√outputs, as released."""
    layer = nn.Linear(inputs, outputs)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(outputs**-0.5), outputs**-0.5)
    return layer
