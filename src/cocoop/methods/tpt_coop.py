"""TPT on CoOp: the learned context is tuned further to each test image (NeurIPS 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.data.views import ImageViews
from cocoop.methods import METHODS, coop
from cocoop.methods._facts import Facts
from cocoop.methods._hooks import NO_TEXT, Text, Unlabelled
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.tpt import PAPER, Tuning


@dataclass(frozen=True)
class Config:
    """Settings of TPT on CoOp.

    Attributes:
        ctx_init: words whose embeddings the training starts from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        looks: views of a test image: the test view, and random crops.
        augmix: whether AugMix is applied to the crops.
        confident: share of the views, those of lowest entropy, whose mean is made surer.
        updates: steps for every test image.
        rate: learning rate of AdamW at test time.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    looks: int = 64
    augmix: bool = False
    confident: float = 0.1
    updates: int = 1
    rate: float = 0.005

    def __post_init__(self) -> None:
        Tuning(self.confident, self.updates, self.rate)  # checks them
        ImageViews(self.looks)


@METHODS.register("tpt-coop")
class Model(nn.Module):
    """CoOp in training; at test time its context is where tuning starts, anew for every image."""

    facts = Facts(
        name="TPT on CoOp",
        summary="is CoOp whose context is tuned further to each test image",
        paper=PAPER,
        extends="coop",
        adapts_to="views",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "tpt-coop-paper": Preset(
            Config(),
            Recipe(epochs=200, batch_size=32),
            "TPT as released for ImageNet, on CoOp as trained in the CoCoOp paper",
        ),
        "tpt-coop-quick": Preset(
            Config(looks=16, confident=0.25),
            Recipe(epochs=20, batch_size=32),
            "fewer epochs than the paper and fewer views, for the demo",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        base = coop.Config(cfg.ctx_init, cfg.n_ctx)
        self.base = coop.Model(base, backbone, template=template, n_classes=n_classes, seed=seed)
        self.prompts = self.base.prompts
        self.image_views = ImageViews(cfg.looks, cfg.augmix)
        self.tuning = Tuning(cfg.confident, cfg.updates, cfg.rate)

    @property
    def ctx(self) -> Float[Tensor, "1 m w"]:
        """The learned vectors, that tuning starts from."""
        return self.base.ctx

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 m w"]:
        """Return CoOp's context, the same for all images."""
        return self.base(zimg, text)

    def adapt(self, images: Unlabelled) -> Float[Tensor, "n c"]:
        """Return the logits under the context tuned to each image."""
        return self.tuning(images, self(images.zimg[:, 0]))
