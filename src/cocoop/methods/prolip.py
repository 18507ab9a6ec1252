"""ProLIP: the image tower's projection is tuned, held near CLIP's own (Fahes et al., 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Bank, Output, Text
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt


@dataclass(frozen=True)
class Config:
    """Settings of ProLIP.

    Attributes:
        penalty: λ, the weight of the distance to CLIP's projection; None for 1 / K^power, K being the
            shots: the images of a class, the most where classes differ.
        power: of K, where `penalty` is None; the paper has 1 and 2.
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
    """

    penalty: float | None = None
    power: int = 1
    templates: tuple[str, ...] = (DATASET,)

    def __post_init__(self) -> None:
        if self.penalty is not None and not self.penalty >= 0:
            raise UsageError(
                f"penalty must be a number from 0 on, or null for 1 / K^power, not {self.penalty}"
            )


# one view of all images a step: as many views as steps
RECIPE = Recipe(
    epochs=300, batch_size=0, lr=1e-5, schedule="step", weight_decay=0.0, optimizer="adam", eps=1e-4, crop=0.5
)
BY_DATASET: Mapping[str, Mapping[str, object]] = {"imagenet": {"templates": ("select7",)}}


@METHODS.register("prolip")
class Model(nn.Module):
    """The projection and how it is changed: f = x (P + D), with λ ||D||² in the loss."""

    facts = Facts(
        name="ProLIP",
        summary="tunes the projection behind the image tower, held near CLIP's own",
        paper=Paper(
            title="CLIP's Visual Embedding Projector is a Few-shot Cornucopia",
            authors="Fahes et al.",
            venue="arXiv 2024",
            date="2024-10",
            link="https://arxiv.org/abs/2410.05270",
            code="https://github.com/astra-vision/ProLIP",
        ),
        cut="projection",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "prolip-released": Preset(
            Config(),
            RECIPE,
            "the released configurations for base-to-new, cross-dataset and domain generalisation",
            BY_DATASET,
        ),
        "prolip-few-shot": Preset(
            Config(),
            replace(RECIPE, lr=1e-4),
            "the released few-shot configuration without validation images, at a rate of 1e-4",
            BY_DATASET,
        ),
        "prolip-quick": Preset(
            Config(),
            replace(RECIPE, epochs=100, lr=1e-3),
            "a third of the released steps, at ten times the few-shot rate, for the demo",
            BY_DATASET,
        ),
    }
    transferable = True

    penalty: Tensor

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        tower = backbone.vision
        self.cut: Cut = "projection"
        self.width = backbone.width
        self.prompts = tuple(Prompt(text) for text in Templates(cfg.templates).texts(template))
        self._given, self._power = cfg.penalty, cfg.power
        self.register_buffer("penalty", torch.tensor(1.0 if cfg.penalty is None else cfg.penalty))
        self.change = nn.Parameter(torch.zeros(tower.width, tower.embed_dim))  # (w, d)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def fit(self, bank: Bank) -> None:
        """Take the weight of the penalty from the number of shots."""
        if self._given is None:
            shots = float(bank.labels.bincount().max())
            self.penalty.fill_(shots**-self._power)

    def image(self, state: Float[Tensor, "b w"], tower: VisionTower) -> Float[Tensor, "b d"]:
        """Return the features under the changed projection."""
        projection = tower.projection + self.change
        return state.to(projection.dtype) @ projection

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross-entropy, and the squared distance to CLIP's projection."""
        return {
            "cross-entropy": F.cross_entropy(out.logits, labels),
            "penalty": self.penalty * self.change.square().sum(),
        }
