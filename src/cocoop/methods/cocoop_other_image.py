"""An ablation of CoCoOp: the Meta-Net sees another image than the one to recognise.

If this does as well as CoCoOp, what the Meta-Net adds is not about the image.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.methods import METHODS, cocoop
from cocoop.methods._facts import Facts
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._recipe import Preset


@METHODS.register("cocoop-other-image")
class Model(nn.Module):
    """CoCoOp whose context for an image is made from another image of the batch.

    Images of a batch are paired as one cycle through them all, in a fixed order without pattern. An image
    that comes alone is paired with the one before it, which is a random one in training.
    """

    facts: ClassVar[Facts] = replace(
        cocoop.Model.facts,
        name="CoCoOp, other image",
        summary="is CoCoOp whose Meta-Net sees another image than the one to recognise",
        extends="cocoop",
        ablation=True,
    )
    config_type: ClassVar[type] = cocoop.Config
    presets: ClassVar[Mapping[str, Preset]] = {
        name.replace("cocoop", "cocoop-other-image"): replace(preset, source=f"an ablation; {preset.source}")
        for name, preset in cocoop.Model.presets.items()
    }
    transferable = True
    previous: Tensor

    def __init__(
        self, cfg: cocoop.Config, backbone: Backbone, *, template: str, n_classes: int, seed: int
    ) -> None:
        super().__init__()
        self.cocoop = cocoop.Model(cfg, backbone, template=template, n_classes=n_classes, seed=seed)
        self.prompts = self.cocoop.prompts
        # kept with what is learned, so that an interrupted training goes on with the same pairs
        self.register_buffer("previous", torch.zeros(1, backbone.embed_dim))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "b 1 m w"]:
        """Return CoCoOp's context vectors for the other images."""
        return self.cocoop(self._others(zimg), text)

    def _others(self, zimg: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        if len(zimg) == 1:
            previous, self.previous = self.previous, zimg.detach().clone()
            return previous.to(zimg)
        order = torch.randperm(len(zimg), generator=torch.Generator().manual_seed(0)).to(zimg.device)
        return torch.empty_like(zimg).index_copy(0, order, zimg[order.roll(1)])
