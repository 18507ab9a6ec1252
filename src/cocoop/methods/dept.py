"""DePT on CoOp: a linear head takes up what is special to the training classes (Zhang et al., CVPR 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS, coop
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.utils.seeding import seeded

PAPER = Paper(
    title="DePT: Decoupled Prompt Tuning",
    authors="Zhang et al.",
    venue="CVPR 2024",
    date="2023-09",
    link="https://arxiv.org/abs/2309.07439",
    code="https://github.com/Koorye/DePT",
)
HEAD_RATE = {"head": 6.5}  # times the learning rate of the prompt


@dataclass(frozen=True)
class Config:
    """Settings of DePT on CoOp.

    Attributes:
        ctx_init: words whose embeddings the context starts from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        share: of the head in the loss, and in the logits among the training classes; the rest is CLIP's.
    """

    ctx_init: str | None = None
    n_ctx: int = 16
    share: float = 0.7


class Film(nn.Module):
    """A learned scale and shift of every channel, at first the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the features with every channel scaled and shifted."""
        return self.scale * features + self.shift


class Head(nn.Module):
    """What DePT adds to a method: one linear classifier of raw image and text features, its CAT head.

    Args:
        width: of the features.
        n_classes: of the training.
        share: its weight in the loss and the logits.
        seed: of its first values.

    Raises:
        UsageError: the share is not from 0 to 1.
    """

    def __init__(self, width: int, n_classes: int, share: float, seed: int) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise UsageError(f"share must be from 0 to 1, not {share}")
        self.share = share
        self.image, self.text = Film(width), Film(width)
        with seeded(seed):
            self.linear = nn.Linear(width, n_classes)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Return CLIP's logits, and among the training classes their weighted sum with the head's."""
        if out.rows is None:
            return out.similarity
        own = self.linear(self.image(out.fimg))[:, out.rows]
        return (1 - self.share) * out.similarity + self.share * own

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Weighted cross-entropy of CLIP's logits, and of the head's for images and their classes' texts."""
        texts = out.ftxt.expand(len(labels), -1, -1)[torch.arange(len(labels), device=labels.device), labels]
        own = self.linear(torch.cat([self.text(texts), self.image(out.fimg)]))
        return {
            "cross-entropy": (1 - self.share) * F.cross_entropy(out.similarity, labels),
            "head": self.share * F.cross_entropy(own, labels.repeat(2)),
        }


@METHODS.register("dept")
class Model(nn.Module):
    """CoOp with a head for the training classes; new classes are told apart by CLIP's logits alone."""

    facts = Facts(
        name="DePT",
        summary="is CoOp with a linear head that takes up what is special to the training classes",
        paper=PAPER,
        extends="coop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "dept-released": Preset(
            Config(),
            Recipe(epochs=10, batch_size=4, lr=0.0035, lr_factors=HEAD_RATE),
            "the released configuration on CoOp",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        base = coop.Config(cfg.ctx_init, cfg.n_ctx)
        self.base = coop.Model(base, backbone, template=template, n_classes=n_classes, seed=seed)
        self.prompts = self.base.prompts
        self.head = Head(backbone.embed_dim, n_classes, cfg.share, seed)

    @property
    def ctx(self) -> Float[Tensor, "1 m w"]:
        """CoOp's vectors."""
        return self.base.ctx

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 m w"]:
        """Return CoOp's context."""
        return self.base(zimg, text)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Return CLIP's logits, and among the training classes their weighted sum with the head's."""
        return self.head.logits(out)

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Weighted cross-entropy of CLIP's logits and of the head's."""
        return self.head.loss(out, labels)
