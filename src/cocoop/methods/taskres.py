"""TaskRes: a learned residual on the frozen text feature of every class (Yu et al., CVPR 2023)."""

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
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt


@dataclass(frozen=True)
class Config:
    """Settings of TaskRes.

    Attributes:
        alpha: scale of the residual.
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
    """

    alpha: float = 0.5
    templates: tuple[str, ...] = (DATASET,)


BY_DATASET: Mapping[str, Mapping[str, object]] = {
    "oxford_flowers": {"alpha": 1.0},
    "imagenet": {"templates": ("select7", DATASET), "lr": 2e-4},
}


@METHODS.register("taskres")
class Model(nn.Module):
    """A residual of its own for every class: t'_c = t_c + α x_c (equation 4)."""

    facts = Facts(
        name="TaskRes",
        summary="adds a learned residual to the frozen text feature of every class",
        paper=Paper(
            title="Task Residual for Tuning Vision-Language Models",
            authors="Yu et al.",
            venue="CVPR 2023",
            date="2022-11",
            link="https://arxiv.org/abs/2211.10277",
            code="https://github.com/geekyutao/TaskRes",
        ),
        bound=True,
        quick="taskres-quick",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "taskres-released": Preset(
            Config(),
            Recipe(epochs=200, batch_size=256, lr=2e-3, optimizer="adam"),
            "the released configuration for 8 and 16 shots",
            BY_DATASET,
        ),
        "taskres-few": Preset(
            Config(),
            Recipe(epochs=100, batch_size=256, lr=2e-3, optimizer="adam"),
            "the released configuration for 1 to 4 shots",
            BY_DATASET,
        ),
        "taskres-quick": Preset(
            Config(),
            Recipe(epochs=100, batch_size=256, lr=2e-3, optimizer="adam", views=10, from_views=True),
            "ten views of every image for all epochs, for the demo",
            BY_DATASET,
        ),
    }
    transferable = False

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.alpha = cfg.alpha
        self.prompts = (Prompt(template),)
        self.texts = {"base": Templates(cfg.templates).texts(template)}
        self.width = backbone.width
        self.residual = nn.Parameter(torch.zeros(n_classes, backbone.embed_dim))  # (c, d)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine to the raw mean of the templates' features plus the residual."""
        weights = out.text["base"].mean(0) + self.alpha * self.residual[out.rows]
        return out.logit_scale * out.zimg @ F.normalize(weights, dim=-1).T
