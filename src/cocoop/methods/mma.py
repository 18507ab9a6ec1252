"""MMA: adapters in the upper blocks of both towers, which share their middle (Yang et al., CVPR 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.block import Change, Changes
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


@dataclass(frozen=True)
class Config:
    """Settings of MMA.

    Attributes:
        frozen_blocks: the first blocks of both towers, which have no adapter: at least the last of the
            smaller tower has one. The upper ones that a deeper tower has alone have none either.
        size: of the middle layer.
        scale: of what an adapter adds.
    """

    frozen_blocks: int = 4
    size: int = 32
    scale: float = 0.001

    def __post_init__(self) -> None:
        for name, least in (("frozen_blocks", 0), ("size", 1), ("scale", 0)):
            if not getattr(self, name) >= least:
                raise UsageError(f"{name} must be at least {least}, not {getattr(self, name)}")


RECIPE = Recipe(epochs=5, batch_size=16, lr=0.0015, warmup_epochs=0)
BY_DATASET: Mapping[str, Mapping[str, object]] = {"imagenet": {"batch_size": 128}}


@METHODS.register("mma")
class Model(nn.Module):
    """Down, a middle that both towers share, and up again, beside blocks of both towers.

    As released, an adapter sees what the block's first layer norm gives, and what it adds is scaled in the
    forward pass alone: the adapters learn as if their scale were 1.
    """

    facts = Facts(
        name="MMA",
        summary="adds adapters beside the upper blocks of both towers, with a middle layer that they share",
        paper=Paper(
            title="MMA: Multi-Modal Adapter for Vision-Language Models",
            authors="Yang et al.",
            venue="CVPR 2024",
            date="2024-06",
            link="https://openaccess.thecvf.com/content/CVPR2024/html/"
            "Yang_MMA_Multi-Modal_Adapter_for_Vision-Language_Models_CVPR_2024_paper.html",
            code="https://github.com/ZjjConan/VLM-MultiModalAdapter",
        ),
        cut="block",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "mma-released": Preset(Config(), RECIPE, "the released configurations", BY_DATASET),
        "mma-quick": Preset(
            Config(),
            replace(RECIPE, epochs=20, lr=0.01),
            "more epochs and a higher rate than released, for the few images of the demo",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        depth = min(len(backbone.vision.blocks), len(backbone.text.blocks))
        self.frozen = min(cfg.frozen_blocks, depth - 1)
        self.cut: Cut = self.frozen
        self.scale = cfg.scale
        self.width = backbone.width
        self.prompts = (Prompt(TEMPLATE),)
        count = depth - self.frozen
        with seeded(seed):
            self.shared = _layers(count, cfg.size, cfg.size)
            self.text_down = _layers(count, backbone.width, cfg.size)
            self.text_up = _layers(count, cfg.size, backbone.width)
            self.image_down = _layers(count, backbone.vision.width, cfg.size)
            self.image_up = _layers(count, cfg.size, backbone.vision.width)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def image(self, state: Float[Tensor, "b l w"], tower: VisionTower) -> Float[Tensor, "b d"]:
        """Return the features of the tower with its adapters."""
        return tower.above(state, self.cut, changes=self._changes(self.image_down, self.image_up))

    def text_changes(self) -> Changes:
        """Return the adapters of the text tower."""
        return self._changes(self.text_down, self.text_up)

    def _changes(self, downs: nn.ModuleList, ups: nn.ModuleList) -> Changes:
        layers = zip(downs, self.shared, ups, strict=True)
        return Changes(
            {
                self.frozen + place: Change(beside=_Adapter(down, middle, up, self.scale))
                for place, (down, middle, up) in enumerate(layers)
            }
        )


@dataclass(frozen=True, eq=False)
class _Adapter:
    """Down, through the middle and up again."""

    down: nn.Module
    middle: nn.Module
    up: nn.Module
    scale: float

    def __call__(self, normed: Float[Tensor, "*n w"]) -> Float[Tensor, "*n w"]:
        weight: Any = self.down.weight
        seen = _times(normed.to(weight.dtype), ahead=1.0, back=self.scale)
        hidden = F.relu(self.middle(F.relu(self.down(seen))))
        return _times(self.up(hidden), ahead=self.scale, back=1.0)


class _Times(torch.autograd.Function):
    """One factor in the forward pass, another for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ahead: float, back: float) -> Tensor:
        ctx.back = back
        return ahead * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back * gradients[0], None, None


def _times(x: Tensor, ahead: float, back: float) -> Tensor:
    """Multiply; what the gradient is multiplied by is told apart."""
    if not torch.is_grad_enabled():
        return ahead * x
    product: Tensor = _Times.apply(x, ahead, back)
    return product


def _layers(count: int, size: int, out: int) -> nn.ModuleList:
    """Return linear layers: Kaiming's normal initialisation by what goes out, and zeros for the biases."""
    layers = [nn.Linear(size, out) for _ in range(count)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return nn.ModuleList(layers)
