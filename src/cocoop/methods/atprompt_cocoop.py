"""ATPrompt on CoCoOp: fixed words for attributes, and behind the last the image's shift (ICCV 2025)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS, atprompt
from cocoop.methods._facts import Facts
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.cocoop import meta_net


@dataclass(frozen=True)
class Config:
    """Settings of ATPrompt on CoCoOp.

    Attributes:
        attributes: words that every prompt has, each behind `n_att` vectors; those of ImageNet if not given.
        n_att: N, the vectors before each attribute.
        n_ctx: M, the vectors between the last attribute and the class name; the image shifts these alone.
        reduction: the Meta-Net's hidden layer is this many times smaller than the image feature.
    """

    attributes: tuple[str, ...] = ("color", "shape")
    n_att: int = 2
    n_ctx: int = 2
    reduction: int = 16

    def __post_init__(self) -> None:
        if self.reduction < 1:
            raise UsageError(f"reduction must be at least 1, not {self.reduction}")


# The released numbers of vectors, before each attribute and behind the last, where they are not 2.
VECTORS = {"ucf101": 4, "stanford_cars": 6, "oxford_flowers": 6, "eurosat": 6}
BY_DATASET: Mapping[str, Mapping[str, Any]] = {
    name: {"attributes": words, "n_att": VECTORS.get(name, 2), "n_ctx": VECTORS.get(name, 2)}
    for name, words in atprompt.ATTRIBUTES.items()
}


@METHODS.register("atprompt-cocoop")
class Model(nn.Module):
    """ATPrompt whose last vectors are conditioned on each image by CoCoOp's Meta-Net."""

    facts: ClassVar[Facts] = replace(
        atprompt.Model.facts,
        name="ATPrompt on CoCoOp",
        summary="is CoCoOp with fixed words for attributes among the learned vectors",
        conditional=True,
        extends="cocoop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "atprompt-cocoop-released": Preset(
            Config(), Recipe(epochs=10, batch_size=1), "the released configuration on CoCoOp", BY_DATASET
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        base = atprompt.Config(cfg.attributes, cfg.n_att, cfg.n_ctx)
        self.base = atprompt.Model(base, backbone, template=template, n_classes=n_classes, seed=seed)
        self.prompts = self.base.prompts
        self.fixed = len(self.base.ctx) - cfg.n_ctx  # vectors that the image does not shift
        self.meta_net = meta_net(backbone.embed_dim, backbone.width, cfg.reduction, seed)

    @property
    def ctx(self) -> Float[Tensor, "m w"]:
        """The vectors before an image shifts them."""
        return self.base.ctx

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "b 1 m w"]:
        """Shift the vectors behind the last attribute by the Meta-Net's answer to the image."""
        return self.from_hidden(self.hidden(zimg))

    def hidden(self, zimg: Float[Tensor, "b d"]) -> Float[Tensor, "b r"]:
        """Return the Meta-Net's hidden layer."""
        return self.meta_net[:-1](zimg)

    def from_hidden(self, hidden: Float[Tensor, "b r"]) -> Float[Tensor, "b 1 m w"]:
        """Shift the vectors behind the last attribute by what the Meta-Net makes of its hidden layer."""
        shift = self.meta_net[-1](hidden)[:, None].expand(-1, len(self.ctx) - self.fixed, -1)
        return (self.ctx + F.pad(shift, (0, 0, self.fixed, 0)))[:, None]
