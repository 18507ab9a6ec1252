"""Bayesian prompt learning: a Gaussian over a shift of CoOp's vectors (Derakhshani et al., ICCV 2023)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._parts import Draws
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt, context_template, init_context
from cocoop.utils.seeding import checked


@dataclass(frozen=True)
class Config:
    """Settings of Bayesian prompt learning.

    Attributes:
        ctx_init: words whose embeddings the context starts from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        samples: L, the shifts that a step and a prediction draw.
        weight: of the divergence from the prior.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    samples: int = 10
    weight: float = 0.001

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UsageError(f"samples must be at least 1, not {self.samples}")


# The released samples and epochs of each dataset.
RUNS = {
    "caltech101": (20, 20),
    "oxford_pets": (40, 20),
    "stanford_cars": (20, 40),
    "oxford_flowers": (10, 40),
    "food101": (20, 20),
    "fgvc_aircraft": (10, 10),
    "sun397": (20, 10),
    "dtd": (40, 10),
    "eurosat": (20, 60),
    "ucf101": (5, 20),
    "imagenet": (10, 10),
}
BY_DATASET: Mapping[str, Mapping[str, Any]] = {
    name: {"samples": samples, "epochs": epochs} for name, (samples, epochs) in RUNS.items()
}


@METHODS.register("bayesian")
class Model(nn.Module):
    """Context shifted by r ~ N(μ, σ²), the same for all images, vectors and classes."""

    facts = Facts(
        name="Bayesian prompt learning",
        summary="is CoOp that averages the probabilities under random shifts of its vectors",
        paper=Paper(
            title="Bayesian Prompt Learning for Image-Language Model Generalization",
            authors="Derakhshani et al.",
            venue="ICCV 2023",
            date="2022-10",
            link="https://arxiv.org/abs/2210.02390",
            code="https://github.com/saic-fi/Bayesian-Prompt-Learning",
        ),
        extends="coop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "bayesian-released": Preset(
            Config(),
            Recipe(epochs=10, batch_size=1),
            "the released configuration, whose Gaussian does not depend on the image",
            BY_DATASET,
        ),
        "bayesian-quick": Preset(
            Config(samples=5), Recipe(epochs=3, batch_size=1), "fewer samples and epochs, for the demo"
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        ctx = init_context(backbone, cfg.ctx_init, cfg.n_ctx, seed)
        generator = torch.Generator().manual_seed(checked(seed))
        self.samples, self.weight = cfg.samples, cfg.weight
        self.prompts = (Prompt(context_template(cfg.ctx_init, len(ctx)), len(ctx)),)
        self.ctx = nn.Parameter(ctx)  # (m, w)
        self.mean = nn.Parameter(torch.zeros(backbone.width))  # μ
        # log σ²; uniform from 0 to 1, as released
        self.log_variance = nn.Parameter(torch.rand(backbone.width, generator=generator))
        self.draws = Draws(seed)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "s 1 m w"]:
        """Return the context under every sample of the shift, each for all images and classes."""
        noise = torch.randn(self.samples, len(self.mean), generator=self.draws()).to(self.mean)
        shift = self.mean + (0.5 * self.log_variance).exp() * noise
        return (self.ctx + shift[:, None])[:, None]

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Return the logarithm of the samples' mean probabilities."""
        each = out.logit_scale * torch.einsum("bd,scd->sbc", out.zimg, out.ztxt)
        return each.log_softmax(-1).logsumexp(0) - math.log(len(each))

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Negative log-likelihood of the mean, and the divergence of the Gaussian from N(0, 1).

        The second is the mean over channels, as released.
        """
        variance = self.log_variance.exp()
        divergence = 0.5 * (variance + self.mean**2 - 1 - self.log_variance).mean()
        return {
            "likelihood": F.nll_loss(out.logits, labels),
            "divergence": self.weight * divergence,
        }
