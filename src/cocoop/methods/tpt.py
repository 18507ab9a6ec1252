"""TPT: a context tuned to each test image, by the entropy of its views (Shu et al., NeurIPS 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.data.views import ImageViews
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._confidence import entropy_of_mean, picked, surest
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text, Unlabelled
from cocoop.methods._recipe import Preset
from cocoop.text.prompt import Prompt, context_template, init_context

PAPER = Paper(
    title="Test-Time Prompt Tuning for Zero-Shot Generalization in Vision-Language Models",
    authors="Shu et al.",
    venue="NeurIPS 2022",
    date="2022-09",
    link="https://arxiv.org/abs/2209.07511",
    code="https://github.com/azshue/TPT",
)


@dataclass(frozen=True)
class Tuning:
    """What is done with the context of a test image.

    Attributes:
        confident: share of the views, those of lowest entropy, whose mean is made surer.
        updates: steps of AdamW, all on the same views.
        rate: its learning rate; the weight decay is 0.01.
    """

    confident: float
    updates: int
    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.confident <= 1:
            raise UsageError(f"confident must be above 0 and at most 1, not {self.confident}")
        if self.updates < 0:
            raise UsageError(f"updates must be at least 0, not {self.updates}")
        if not self.rate > 0:
            raise UsageError(f"rate must be above 0, not {self.rate}")

    def __call__(self, images: Unlabelled, contexts: Float[Tensor, "#n #c m w"]) -> Float[Tensor, "n c"]:
        """Return the logits of the test views, each image's under its own tuned context.

        The images are tuned side by side: AdamW moves every number by its own gradient, so that it is as if
        each were alone.

        Args:
            images: in several views.
            contexts: where tuning starts, for all images or for each.
        """
        tuned = contexts.detach().expand(len(images.fimg), -1, -1, -1).clone().requires_grad_()
        optimizer = torch.optim.AdamW([tuned], self.rate, weight_decay=0.01)
        views = None
        with torch.enable_grad():
            for _ in range(self.updates):
                logits = view_logits(images, tuned)
                views = surest(logits.detach(), self.confident) if views is None else views
                loss = entropy_of_mean(picked(logits, views)).sum()
                (tuned.grad,) = torch.autograd.grad(loss, [tuned])
                optimizer.step()
        return view_logits(images, tuned.detach())[:, 0]


def view_logits(images: Unlabelled, contexts: Float[Tensor, "#n #c m w"]) -> Float[Tensor, "n v c"]:
    """Return CLIP's logits of every view, under the context of its image."""
    ztxt = F.normalize(images.encode(contexts), dim=-1)
    return images.logit_scale * images.zimg @ ztxt.mT


@dataclass(frozen=True)
class Config:
    """Settings of TPT.

    Attributes:
        ctx_init: words whose embeddings the context of every image starts from.
        looks: views of a test image: the test view, and random crops.
        augmix: whether AugMix is applied to the crops.
        confident: share of the views, those of lowest entropy, whose mean is made surer.
        updates: steps for every image.
        rate: learning rate of AdamW.
    """

    ctx_init: str = "a photo of a"
    looks: int = 64
    augmix: bool = True
    confident: float = 0.1
    updates: int = 1
    rate: float = 0.005

    def __post_init__(self) -> None:
        Tuning(self.confident, self.updates, self.rate)  # checks them
        ImageViews(self.looks)


IMAGENET = ("imagenet", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")


@METHODS.register("tpt")
class Model(nn.Module):
    """A context of words, tuned to each test image alone."""

    facts = Facts(
        name="TPT",
        summary="tunes the words before the class name to each test image, so that its views agree",
        paper=PAPER,
        images=False,
        training="none",
        draws=True,
        adapts_to="views",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "tpt-released": Preset(
            Config(),
            None,
            "the released scripts: AugMix but on ImageNet and its variants",
            {name: {"augmix": False} for name in IMAGENET},
        ),
        "tpt-crops": Preset(Config(augmix=False), None, "as released for ImageNet, on all datasets"),
        "tpt-quick": Preset(
            Config(looks=16, augmix=False, confident=0.25),
            None,
            "fewer views than released, and crops alone, for the demo",
        ),
    }
    transferable = True
    ctx: Tensor

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        ctx = init_context(backbone, cfg.ctx_init, 0, seed)
        self.prompts = (Prompt(context_template(cfg.ctx_init, len(ctx)), len(ctx)),)
        self.image_views = ImageViews(cfg.looks, cfg.augmix)
        self.tuning = Tuning(cfg.confident, cfg.updates, cfg.rate)
        self.register_buffer("ctx", ctx)  # (m, w)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 m w"]:
        """Return the words that tuning starts from."""
        return self.ctx[None, None]

    def adapt(self, images: Unlabelled) -> Float[Tensor, "n c"]:
        """Return the logits under the words tuned to each image."""
        return self.tuning(images, self(images.zimg[:, 0]))
