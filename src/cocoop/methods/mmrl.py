"""MMRL: representation tokens of one shared space in the upper blocks of both towers (CVPR 2025)."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt
from cocoop.utils.seeding import seeded

STD = 0.02  # of the representation tokens at the start


@dataclass(frozen=True)
class Config:
    """Settings of MMRL.

    Attributes:
        tokens: representation tokens.
        dim: size of the space that both towers share.
        first: the block, counted from 0, before which the tokens come in.
        last: the last block before which they are replaced.
        share: α, that of the class token's logits beside those of the representation tokens.
        weight: λ, of both cosines to frozen features.
        fused: whether logits of both kinds are added up among the names of the training; among other names
            the class token's answer alone.
    """

    tokens: int = 5
    dim: int = 512
    first: int = 5
    last: int = 11
    share: float = 0.7
    weight: float = 1.0
    fused: bool = True

    def __post_init__(self) -> None:
        if min(self.tokens, self.dim) < 1:
            raise UsageError(f"tokens and dim must be at least 1, not {self.tokens} and {self.dim}")
        if not 1 <= self.first <= self.last:
            raise UsageError(f"first must be from 1 to last, not {self.first} with last {self.last}")
        if not 0 <= self.share <= 1:
            raise UsageError(f"share must be from 0 to 1, not {self.share}")
        if not 0 <= self.weight < math.inf:
            raise UsageError(f"weight must be a number from 0 on, not {self.weight}")


# As released, for base-to-new and few shots alike: `trainers/config.py` has them, in place of the 1.0 and 0.5
# that the settings files say.
BY_DATASET: dict[str, dict[str, Any]] = {
    "imagenet": {"weight": 0.5, "batch_size": 32, "epochs": 5},
    "caltech101": {"weight": 0.5},
    "oxford_pets": {"weight": 0.2},
    "stanford_cars": {"weight": 7.0},
    "oxford_flowers": {"weight": 4.0},
    "food101": {"weight": 5.0},
    "fgvc_aircraft": {"weight": 6.0},
    "sun397": {"weight": 6.0},
    "dtd": {"weight": 6.0},
    "eurosat": {"weight": 0.01, "dim": 2048},
    "ucf101": {"weight": 3.0},
}


def _recipe(epochs: int, batch_size: int, warmup_epochs: int = 1) -> Recipe:
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        lr=1e-3,
        optimizer="adamw",
        warmup_epochs=warmup_epochs,
        crop=0.5,
    )


@METHODS.register("mmrl")
class Model(nn.Module):
    """Tokens that stand beside those of both towers, and a feature of the image made of them.

    The released code tells by the dataset whether logits are fused: on ImageNet they are, on its variants,
    which have the same names, they are not. Here the names decide; with `fused` off, they never are.
    """

    facts = Facts(
        name="MMRL",
        summary="learns tokens of a space that both towers share, which stand in the upper blocks of each",
        paper=Paper(
            title="MMRL: Multi-Modal Representation Learning for Vision-Language Models",
            authors="Guo and Gu",
            venue="CVPR 2025",
            date="2025-03",
            link="https://arxiv.org/abs/2503.08497",
            code="https://github.com/yunncheng/MMRL",
        ),
        cut="block",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "mmrl-released": Preset(
            Config(), _recipe(10, 4), "the released configuration for base-to-new", BY_DATASET
        ),
        "mmrl-few-shot": Preset(
            Config(), _recipe(50, 32), "the released configuration for few shots", BY_DATASET
        ),
        "mmrl-cross-dataset": Preset(
            Config(weight=0.2),
            _recipe(1, 32, warmup_epochs=0),
            "the released configuration for cross-dataset and domain generalization; other datasets are "
            "asked by the template of the training, there by their own",
        ),
        "mmrl-quick": Preset(Config(), _recipe(3, 4), "fewer epochs than released, for the demo"),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        vision, depths = backbone.vision, (len(backbone.vision.blocks), len(backbone.text.blocks))
        first = min(cfg.first, min(depths) - 1)
        if first < 1:
            raise UsageError(f"MMRL needs towers of two blocks; {backbone.name} has one with a single block")
        self.share, self.weight, self.fused, self.first = cfg.share, cfg.weight, cfg.fused, first
        self.cut: Cut = first
        self.prompts = (Prompt(template, cfg.tokens, inserted=first),)
        self.texts = {"frozen": (template,)}
        of_vision, of_text = (range(first, min(cfg.last + 1, depth)) for depth in depths)
        with seeded(seed):
            self.tokens = nn.Parameter(STD * torch.randn(cfg.tokens, cfg.dim))
            self.to_vision = _alike(nn.Linear(cfg.dim, vision.width), len(of_vision))
            self.to_text = _alike(nn.Linear(cfg.dim, backbone.width), len(of_text))
            start = vision.width**-0.5 * torch.randn(vision.width, vision.embed_dim)
            self.projection = nn.Parameter(start)  # of the representation tokens, where CLIP has its own

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 jm w"]:
        """Return the text tower's tokens of every block in turn, the same for all images and classes."""
        return torch.cat([each(self.tokens) for each in self.to_text])[None, None]

    def image(self, state: Float[Tensor, "b *n w"], tower: VisionTower) -> Float[Tensor, "b kd"]:
        """Return the features of the class token and of the representation tokens; in training CLIP's too."""
        tokens = {self.first + place: each(self.tokens)[None] for place, each in enumerate(self.to_vision)}
        ends = [0, *range(-len(self.tokens), 0)]
        states = tower.run(state, self.cut, tokens, ends=ends)
        mean = tower.norms[1](states[:, 1:]).mean(1).to(self.projection.dtype)
        features = [tower.project(states[:, 0]), mean @ self.projection]
        if self.training:
            with torch.no_grad():
                features.append(tower.above(state, self.cut))
        return torch.cat(features, dim=1)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Return the class token's logits, or their mean with those of the representation tokens."""
        if out.rows is None or not self.fused:
            return out.similarity
        return self.share * out.similarity + (1 - self.share) * _of_representation(out)

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross-entropy of both kinds of logits, and how far features turn away from the frozen ones."""
        image = F.cosine_similarity(out.fimg, out.others[:, 1], dim=-1)
        text = F.cosine_similarity(out.ftxt[0], out.text["frozen"][0], dim=-1)
        return {
            "cross-entropy": self.share * F.cross_entropy(out.similarity, labels),
            "representation": (1 - self.share) * F.cross_entropy(_of_representation(out), labels),
            "image": self.weight * (1 - image.mean()),
            "text": self.weight * (1 - text.mean()),
        }


def _alike(layer: nn.Linear, count: int) -> nn.ModuleList:
    """Return layers that start from the same values, as released."""
    return nn.ModuleList([deepcopy(layer) for _ in range(count)])


def _of_representation(out: Output) -> Float[Tensor, "b c"]:
    """Return the scaled cosine of the representation tokens' feature and the texts."""
    return out.logit_scale * F.normalize(out.others[:, 0], dim=-1) @ out.ztxt[0].T
