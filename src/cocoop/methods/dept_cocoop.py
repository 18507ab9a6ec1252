"""DePT on CoCoOp: a linear head takes up what is special to the training classes (CVPR 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.methods import METHODS, cocoop
from cocoop.methods._facts import Facts
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.dept import HEAD_RATE, PAPER, Head


@dataclass(frozen=True)
class Config:
    """Settings of DePT on CoCoOp.

    Attributes:
        ctx_init: words whose embeddings the context starts from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        reduction: the Meta-Net's hidden layer is this many times smaller than the image feature.
        share: of the head in the loss, and in the logits among the training classes; the rest is CLIP's.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    reduction: int = 16
    share: float = 0.7


@METHODS.register("dept-cocoop")
class Model(nn.Module):
    """CoCoOp with a head for the training classes; new classes are told apart by CLIP's logits alone."""

    facts = Facts(
        name="DePT on CoCoOp",
        summary="is CoCoOp with a linear head that takes up what is special to the training classes",
        paper=PAPER,
        conditional=True,
        by_image=True,
        extends="cocoop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "dept-cocoop-released": Preset(
            Config(),
            Recipe(epochs=10, batch_size=1, lr_factors=HEAD_RATE),
            "the released configuration on CoCoOp",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        base = cocoop.Config(cfg.ctx_init, cfg.n_ctx, cfg.reduction)
        self.base = cocoop.Model(base, backbone, template=template, n_classes=n_classes, seed=seed)
        self.prompts = self.base.prompts
        self.head = Head(backbone.embed_dim, n_classes, cfg.share, seed)

    @property
    def ctx(self) -> Float[Tensor, "m w"]:
        """The vectors before an image shifts them."""
        return self.base.ctx

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "b 1 m w"]:
        """Return CoCoOp's context for every image."""
        return self.base(zimg, text)

    def hidden(self, zimg: Float[Tensor, "b d"]) -> Float[Tensor, "b r"]:
        """Return the hidden layer of CoCoOp's Meta-Net."""
        return self.base.hidden(zimg)

    def from_hidden(self, hidden: Float[Tensor, "b r"]) -> Float[Tensor, "b 1 m w"]:
        """Return CoCoOp's context under hidden vectors."""
        return self.base.from_hidden(hidden)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Return CLIP's logits, and among the training classes their weighted sum with the head's."""
        return self.head.logits(out)

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Weighted cross-entropy of CLIP's logits and of the head's, each text under its image's prompt."""
        return self.head.loss(out, labels)
