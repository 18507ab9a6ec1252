"""ZS-LP: a linear probe that starts from the zero-shot weights (Silva-Rodríguez et al., CVPR 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Bank, Output, Text
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt


@dataclass(frozen=True)
class Config:
    """Settings of ZS-LP.

    Attributes:
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
    """

    templates: tuple[str, ...] = (DATASET,)


BY_DATASET: Mapping[str, Mapping[str, object]] = {"imagenet": {"templates": ("select7", DATASET)}}
RECIPE = Recipe(epochs=300, batch_size=256, lr=0.1, weight_decay=0.0, views=20, from_views=True)


@METHODS.register("zs-lp")
class Model(nn.Module):
    """A prototype of every class, learned from its zero-shot weight on (section 4.1)."""

    facts = Facts(
        name="ZS-LP",
        summary="is a linear probe that starts from the text features of the classes",
        paper=Paper(
            title="A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models",
            authors="Silva-Rodríguez et al.",
            venue="CVPR 2024",
            date="2023-12",
            link="https://arxiv.org/abs/2312.12730",
            code="https://github.com/jusiro/CLAP",
        ),
        extends="linear-probe",
        bound=True,
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "zs-lp-released": Preset(Config(), RECIPE, "the released configuration", BY_DATASET)
    }
    transferable = False

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.prompts = (Prompt(template),)
        self.texts = {"base": Templates(cfg.templates).texts(template)}
        self.width = backbone.width
        self.prototypes = nn.Parameter(torch.zeros(n_classes, backbone.embed_dim))  # (c, d), see `fit`

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    @torch.no_grad()
    def fit(self, bank: Bank) -> None:
        """Start from the raw mean of the templates' features."""
        self.prototypes.copy_(bank.text["base"].mean(0))

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine to the prototypes."""
        return out.logit_scale * out.zimg @ F.normalize(self.prototypes[out.rows], dim=-1).T
