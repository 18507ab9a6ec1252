"""TPT on CoCoOp: the context that the Meta-Net makes for a test image is tuned further (NeurIPS 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.data.views import ImageViews
from cocoop.methods import METHODS, cocoop
from cocoop.methods._facts import Facts
from cocoop.methods._hooks import NO_TEXT, Text, Unlabelled
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.tpt import PAPER, Tuning


@dataclass(frozen=True)
class Config:
    """Settings of TPT on CoCoOp.

    Attributes:
        ctx_init: words whose embeddings the training starts from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        reduction: the Meta-Net's hidden layer is this many times smaller than the image feature.
        raw: whether the Meta-Net is given the raw feature of a test image; it is trained on normalised ones.
        looks: views of a test image: the test view, and random crops.
        augmix: whether AugMix is applied to the crops.
        confident: share of the views, those of lowest entropy, whose mean is made surer.
        updates: steps for every test image.
        rate: learning rate of AdamW at test time.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    reduction: int = 16
    raw: bool = False
    looks: int = 64
    augmix: bool = False
    confident: float = 0.1
    updates: int = 1
    rate: float = 0.005

    def __post_init__(self) -> None:
        Tuning(self.confident, self.updates, self.rate)  # checks them
        ImageViews(self.looks)


@METHODS.register("tpt-cocoop")
class Model(nn.Module):
    """CoCoOp in training; at test time the context of the test view is where tuning starts."""

    facts = Facts(
        name="TPT on CoCoOp",
        summary="is CoCoOp whose context for a test image is tuned further to its views",
        paper=PAPER,
        conditional=True,
        extends="cocoop",
        adapts_to="views",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "tpt-cocoop-paper": Preset(
            Config(),
            Recipe(epochs=10, batch_size=1),
            "TPT as released for ImageNet, on the context that CoCoOp has for the test view",
        ),
        "tpt-cocoop-released": Preset(
            Config(raw=True),
            Recipe(epochs=10, batch_size=1),
            "the released code, whose Meta-Net is given raw features at test time",
        ),
        "tpt-cocoop-quick": Preset(
            Config(looks=16, confident=0.25),
            Recipe(epochs=3, batch_size=1),
            "fewer epochs than the paper and fewer views, for the demo",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        base = cocoop.Config(cfg.ctx_init, cfg.n_ctx, cfg.reduction)
        self.base = cocoop.Model(base, backbone, template=template, n_classes=n_classes, seed=seed)
        self.prompts = self.base.prompts
        self.raw = cfg.raw
        self.image_views = ImageViews(cfg.looks, cfg.augmix)
        self.tuning = Tuning(cfg.confident, cfg.updates, cfg.rate)

    @property
    def ctx(self) -> Float[Tensor, "m w"]:
        """The vectors before an image shifts them."""
        return self.base.ctx

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "b 1 m w"]:
        """Return CoCoOp's context for every image."""
        return self.base(zimg, text)

    def adapt(self, images: Unlabelled) -> Float[Tensor, "n c"]:
        """Return the logits under the context made for each image and tuned to it."""
        return self.tuning(images, self((images.fimg if self.raw else images.zimg)[:, 0]))
