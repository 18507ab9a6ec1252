"""CLIP-Adapter: a small network on the image feature, mixed with that feature (Gao et al., IJCV 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt
from cocoop.utils.seeding import seeded


@dataclass(frozen=True)
class Config:
    """Settings of CLIP-Adapter.

    Attributes:
        ratio: share of the network's output in the adapted feature, from 0 to 1.
        reduction: how many times smaller the inner layer is than the feature.
    """

    ratio: float = 0.2
    reduction: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise UsageError(f"ratio must be from 0 to 1, not {self.ratio}")
        if self.reduction < 1:
            raise UsageError(f"reduction must be at least 1, not {self.reduction}")


@METHODS.register("clip-adapter")
class Model(nn.Module):
    """A bottleneck without biases, ReLU behind both layers, on the image feature (section 3.2).

    It has no values of single classes, so that it answers among any names. Without biases, normalised
    features would give the same logits.
    """

    facts = Facts(
        name="CLIP-Adapter",
        summary="adds a small learned network to the image feature",
        paper=Paper(
            title="CLIP-Adapter: Better Vision-Language Models with Feature Adapters",
            authors="Gao et al.",
            venue="IJCV 2024",
            date="2021-10",
            link="https://arxiv.org/abs/2110.04544",
            code="https://github.com/gaopengcuhk/CLIP-Adapter",
        ),
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "clip-adapter-released": Preset(
            Config(),
            Recipe(epochs=200, batch_size=32),
            "the released trainer, which is for ImageNet and RN50 alone, with CoOp's configuration",
        ),
        "clip-adapter-quick": Preset(
            Config(), Recipe(epochs=20, batch_size=32), "fewer epochs than released, for the demo"
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        size = backbone.embed_dim
        if cfg.reduction > size:
            raise UsageError(f"reduction must be at most {size}, the size of a feature, not {cfg.reduction}")
        self.ratio = cfg.ratio
        self.prompts = (Prompt(template),)
        self.width = backbone.width
        with seeded(seed):
            self.down = nn.Linear(size, size // cfg.reduction, bias=False)
            self.up = nn.Linear(size // cfg.reduction, size, bias=False)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine of the text features and ratio * network(f) + (1 - ratio) * f (section 3.2)."""
        change = self.up(self.down(out.fimg).relu()).relu()
        adapted = self.ratio * change + (1 - self.ratio) * out.fimg
        return out.logit_scale * F.normalize(adapted, dim=-1) @ out.ztxt[0].T
