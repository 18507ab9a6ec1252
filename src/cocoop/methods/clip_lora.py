"""CLIP-LoRA: low-rank changes of attention in both towers (Zanella and Ben Ayed, CVPR Workshops 2024)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.block import Change, Changes, Step
from cocoop.backbones.clip import Backbone
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt
from cocoop.utils.seeding import seeded

TEMPLATE = "a photo of a {}."
PARTS = 3  # queries, keys and values


@dataclass(frozen=True)
class Config:
    """Settings of CLIP-LoRA.

    Attributes:
        rank: r, of each change.
        alpha: the change is scaled by alpha / sqrt(r), as released, not by alpha / r.
        dropout: share of the inputs of each change that training leaves out.
    """

    rank: int = 2
    alpha: float = 1.0
    dropout: float = 0.25

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"rank must be at least 1, not {self.rank}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be from 0 to less than 1, not {self.dropout}")


RECIPE = Recipe(
    epochs=0,
    steps_per_shot=500,
    batch_size=32,
    lr=2e-4,
    lr_end=1e-6,
    schedule="step",
    optimizer="adamw",
    weight_decay=0.01,
)


@METHODS.register("clip-lora")
class Model(nn.Module):
    """Changes B A of the query, key and value projections of all blocks of both towers."""

    facts = Facts(
        name="CLIP-LoRA",
        summary="adds changes of low rank to the queries, keys and values of both towers",
        paper=Paper(
            title="Low-Rank Few-Shot Adaptation of Vision-Language Models",
            authors="Zanella and Ben Ayed",
            venue="CVPR Workshops 2024",
            date="2024-05",
            link="https://arxiv.org/abs/2405.18541",
            code="https://github.com/MaxZanella/CLIP-LoRA",
        ),
        cut="pixels",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "clip-lora-released": Preset(Config(), RECIPE, "the released configuration"),
        "clip-lora-quick": Preset(
            Config(),
            replace(RECIPE, steps_per_shot=0, epochs=20, lr=2e-3),
            "fewer steps than released at ten times the rate, for the demo",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cut: Cut = "pixels"
        self.dropout = nn.Dropout(cfg.dropout)
        self.scale = cfg.alpha / math.sqrt(cfg.rank)
        self.width = backbone.width
        tower = backbone.vision
        with seeded(seed):
            self.text_a, self.text_b = _factors(len(backbone.text.blocks), cfg.rank, backbone.width)
            self.image_a, self.image_b = _factors(len(tower.blocks), cfg.rank, tower.width)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompt; what dropout leaves out in training is drawn for every class on its own."""
        return (Prompt(TEMPLATE, own_states=self.training and self.dropout.p > 0),)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def image(self, state: Float[Tensor, "b 3 h w"], tower: VisionTower) -> Float[Tensor, "b d"]:
        """Return the features of the changed tower."""
        return tower.above(state, self.cut, changes=self._changes(self.image_a, self.image_b))

    def text_changes(self) -> Changes:
        """Return the changes of the text tower."""
        return self._changes(self.text_a, self.text_b)

    def _changes(self, a: Float[Tensor, "l 3 r w"], b: Float[Tensor, "l 3 w r"]) -> Changes:
        return Changes(
            {number: Change(qkv=self._of_block(*pair)) for number, pair in enumerate(zip(a, b, strict=True))}
        )

    def _of_block(self, a: Float[Tensor, "3 r w"], b: Float[Tensor, "3 w r"]) -> Step:
        def change(normed: Float[Tensor, "*n w"]) -> Float[Tensor, "*n w3"]:
            x = normed.to(a.dtype)
            parts = [self.dropout(x) @ down.T @ up.T for down, up in zip(a, b, strict=True)]
            return self.scale * torch.cat(parts, dim=-1)

        return change


def _factors(blocks: int, rank: int, width: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Return A, drawn as the weights of torch's linear layers are, and B, which is zero, of every block."""
    bound = 1 / math.sqrt(width)
    a = torch.empty(blocks, PARTS, rank, width).uniform_(-bound, bound)
    return nn.Parameter(a), nn.Parameter(torch.zeros(blocks, PARTS, width, rank))
