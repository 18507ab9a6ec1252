"""CLAP: ZS-LP whose prototypes are held near where they start (Silva-Rodríguez et al., CVPR 2024)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS, zs_lp
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Bank, Output, Text
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset
from cocoop.methods.zs_lp import BY_DATASET, RECIPE


@dataclass(frozen=True)
class Config:
    """Settings of CLAP.

    Attributes:
        templates: as for ZS-LP.
        strength: times the multiplier of every class.
    """

    templates: tuple[str, ...] = (DATASET,)
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise UsageError(f"strength must be at least 0, not {self.strength}")


@METHODS.register("clap")
class Model(nn.Module):
    """ZS-LP with a quadratic penalty of its own for every class (section 4.2).

    The multipliers stay as they are at first: the released scripts never take the paper's outer step.
    """

    facts = Facts(
        name="CLAP",
        summary="is ZS-LP whose classes are held the nearer to their start, the better CLIP knows them",
        paper=Paper(
            title="A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models",
            authors="Silva-Rodríguez et al.",
            venue="CVPR 2024",
            date="2023-12",
            link="https://arxiv.org/abs/2312.12730",
            code="https://github.com/jusiro/CLAP",
        ),
        extends="zs-lp",
        bound=True,
        quick="clap-released",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "clap-released": Preset(Config(), RECIPE, "the released configuration", BY_DATASET)
    }
    transferable = False
    multipliers: Tensor

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        probe = zs_lp.Config(cfg.templates)
        self.probe = zs_lp.Model(probe, backbone, template=template, n_classes=n_classes, seed=seed)
        self.strength = cfg.strength
        self.prompts, self.texts = self.probe.prompts, self.probe.texts
        self.register_buffer("multipliers", torch.zeros(n_classes))  # see `fit`

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return self.probe(zimg, text)

    @torch.no_grad()
    def fit(self, bank: Bank) -> None:
        """Start as ZS-LP; λ_c is the mean zero-shot probability of class c over the views of its images."""
        self.probe.fit(bank)
        zimg, start = F.normalize(bank.fimg, dim=-1), F.normalize(self.probe.prototypes, dim=-1)
        chance = (bank.logit_scale * zimg @ start.to(zimg).T).softmax(-1).mean(0)  # (n, c)
        own = F.one_hot(bank.labels, chance.shape[1]).to(chance)
        self.multipliers.copy_((own * chance).sum(0) / own.sum(0).clamp(min=1))

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine to the prototypes."""
        return self.probe.logits(out)

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross-entropy, and mean_c λ_c |w_c - t_c|² of the raw vectors (section 4.2)."""
        moved = (self.probe.prototypes[out.rows] - out.text["base"].mean(0)).pow(2).sum(1)
        return {
            "cross-entropy": F.cross_entropy(out.logits, labels),
            "constraint": self.strength * (self.multipliers[out.rows] * moved).mean(),
        }
