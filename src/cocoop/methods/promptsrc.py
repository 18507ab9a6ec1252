"""PromptSRC: deep prompts of both towers held near the frozen towers, and averaged (ICCV 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.errors import UsageError
from cocoop.methods import METHODS, ivlp
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.zeroshot import Config as Templates


@dataclass(frozen=True)
class Config:
    """Settings of PromptSRC.

    Attributes:
        ctx_init: words whose first embeddings the text vectors start from, or None for random vectors.
        n_ctx: M, the number of text vectors before each block.
        depth: blocks of the text tower with vectors of their own, all of the tower's at most.
        n_ctx_image: the number of image vectors before each block.
        depth_image: blocks of the image tower with vectors of their own, all of the tower's at most.
        weight_text: of the distance of text features from the teacher's.
        weight_image: of the distance of image features from the frozen tower's.
        weight_logits: of the divergence from the frozen towers' probabilities.
        templates: the teacher's prompts with `{}` for the class name, "dataset" for the dataset's own, or
            lists by name, as for zero-shot CLIP.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    depth: int = 9
    n_ctx_image: int = 4
    depth_image: int = 9
    weight_text: float = 25.0
    weight_image: float = 10.0
    weight_logits: float = 1.0
    templates: tuple[str, ...] = ("imagenet60",)

    def __post_init__(self) -> None:
        self.vectors()  # checks them
        Templates(self.templates)
        for name in ("weight_text", "weight_image", "weight_logits"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must be a number from 0 on, not {getattr(self, name)}")

    def vectors(self) -> ivlp.Config:
        """Return the settings of the vectors alone."""
        return ivlp.Config(self.ctx_init, self.n_ctx, self.depth, self.n_ctx_image, self.depth_image)


# The average of the few-shot training: its last epochs on these, all of them elsewhere.
LATE: Mapping[str, Any] = {"average": (45.0, 5.0)}
FEW = ("stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat")


@METHODS.register("promptsrc")
class Model(nn.Module):
    """IVLP with three terms that keep what the frozen towers know, and averaged weights (section 3)."""

    facts = Facts(
        name="PromptSRC",
        summary="is IVLP whose features and probabilities are held near those of the frozen towers, and "
        "whose weights are averaged over its epochs",
        paper=Paper(
            title="Self-regulating Prompts: Foundational Model Adaptation without Forgetting",
            authors="Khattak et al.",
            venue="ICCV 2023",
            date="2023-07",
            link="https://arxiv.org/abs/2307.06948",
            code="https://github.com/muzairkhattak/PromptSRC",
        ),
        cut="pixels",
        extends="ivlp",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "promptsrc-released": Preset(
            Config(),
            Recipe(epochs=20, batch_size=4, lr=0.0025, average=(15.0, 1.0)),
            "the released base-to-new configuration",
        ),
        "promptsrc-few": Preset(
            Config(),
            Recipe(epochs=50, batch_size=4, lr=0.0025, average=(30.0, 30.0)),
            "the released few-shot configuration",
            dict.fromkeys(FEW, LATE),
        ),
        "promptsrc-transfer": Preset(
            Config(depth=3, depth_image=3),
            Recipe(epochs=20, batch_size=4, lr=0.0025, average=(6.0, 10.0)),
            "the released cross-dataset configuration of ImageNet",
        ),
        "promptsrc-quick": Preset(
            Config(),
            Recipe(epochs=8, batch_size=4, lr=0.0025, average=(6.0, 1.0)),
            "fewer epochs than released, for the demo",
        ),
    }
    transferable = True
    cut: Cut = "pixels"

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.base = ivlp.Model(cfg.vectors(), backbone, template=template, n_classes=n_classes, seed=seed)
        self.prompts = self.base.prompts
        self.teacher = Templates(cfg.templates).texts(template)
        self.weights = (cfg.weight_text, cfg.weight_image, cfg.weight_logits)

    @property
    def texts(self) -> Mapping[str, tuple[str, ...]]:
        """The teacher's prompts while it is trained, and none afterwards: there are many."""
        return {"teacher": self.teacher} if self.training else {}

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 jm w"]:
        """Return the text vectors of every block in turn, the same for all images and classes."""
        return self.base(zimg, text)

    def image(self, state: Float[Tensor, "b 3 h w"], tower: VisionTower) -> Float[Tensor, "b kd"]:
        """Return the features under the image vectors, and in training those of the frozen tower."""
        prompted = self.base.image(state, tower)
        if not self.training:
            return prompted
        with torch.no_grad():
            frozen = tower.above(state, self.cut)
        return torch.cat([prompted, frozen], dim=1)

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross-entropy, and three distances from the frozen towers (equations 3 to 5).

        The teacher of the texts is the normalised mean of raw features. All distances are means over
        their elements, as released: the divergence is divided by the number of classes too.
        """
        text, image, logits = self.weights
        teacher = F.normalize(out.text["teacher"].mean(0), dim=-1)
        frozen = F.normalize(out.others[:, 0], dim=-1)
        ours, theirs = (each.log_softmax(1) for each in (out.logits, out.logit_scale * frozen @ teacher.T))
        return {
            "cross-entropy": F.cross_entropy(out.logits, labels),
            "text": text * F.l1_loss(out.ztxt[0], teacher),
            "image": image * F.l1_loss(out.zimg, frozen),
            "logits": logits * F.kl_div(ours, theirs, reduction="none", log_target=True).mean(),
        }
