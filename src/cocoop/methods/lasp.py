"""The text part of LASP: learned prompts by which hand-written sentences are told apart (CVPR 2023).

LASP also tunes the LayerNorms of the image tower, which stays frozen here.
"""

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

# The released sentences, for every dataset; one of them stands twice, and counts double.
SENTENCES = (
    "a photo of a {}, a type of flower.",
    "a photo of a person doing {}.",
    "a centered satellite photo of {}.",
    "a photo of a {}, a type of aircraft.",
    "{} texture.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    "a photo of a {}.",
    "a photo of many {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a pixelated photo of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a close-up photo of the {}.",
    "a low resolution photo of a {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a blurry photo of a {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the text part of LASP.

    Attributes:
        ctx_init: words whose embeddings the context starts from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        weight: λ of the text term.
        noise: deviation of what is added to the sentences' features in every other step, at random.
        templates: the sentences, with `{}` for the class name.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    weight: float = 5.0
    noise: float = 0.05
    templates: tuple[str, ...] = SENTENCES

    def __post_init__(self) -> None:
        if not self.templates:
            raise UsageError('give at least one template, e.g. ["a photo of a {}."]')


LONGER: Mapping[str, Any] = {"epochs": 50, "warmup_epochs": 5, "weight": 10.0}
BY_DATASET: Mapping[str, Mapping[str, Any]] = {
    "caltech101": LONGER,
    "dtd": LONGER,
    "ucf101": LONGER,
    "eurosat": {"epochs": 300, "warmup_epochs": 7},
    "food101": {"epochs": 10, "warmup_epochs": 1, "batch_size": 1, "lr": 0.002},
}


@METHODS.register("lasp")
class Model(nn.Module):
    """Learned context and a shift of the text features, both held by a loss between texts."""

    facts = Facts(
        name="LASP (text part)",
        summary="is CoOp whose text features, with a learned shift, tell hand-written sentences about all of "
        "the dataset's classes apart too; the image tower, which LASP tunes a little, stays frozen",
        paper=Paper(
            title="LASP: Text-to-Text Optimization for Language-Aware Soft Prompting of "
            "Vision & Language Models",
            authors="Bulat and Tzimiropoulos",
            venue="CVPR 2023",
            date="2022-10",
            link="https://arxiv.org/abs/2210.01115",
            code="https://github.com/1adrianb/lasp",
        ),
        sees_new_names=True,
        extends="coop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "lasp-released": Preset(
            Config(),
            Recipe(epochs=25, batch_size=32, lr=0.032, warmup_epochs=3, clip=1.0),
            "the released configuration without the image tower's LayerNorms",
            BY_DATASET,
        ),
        "lasp-quick": Preset(
            Config(),
            Recipe(epochs=15, batch_size=32, lr=0.032, warmup_epochs=3, clip=1.0),
            "fewer epochs than released, for the demo",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        ctx = init_context(backbone, cfg.ctx_init, cfg.n_ctx, seed)
        self.weight, self.noise, self.n_classes = cfg.weight, cfg.noise, n_classes
        self.prompts = (Prompt(context_template(cfg.ctx_init, len(ctx)), len(ctx)),)
        self.texts = {"sentences": cfg.templates}
        self.ctx = nn.Parameter(ctx)  # (m, w)
        self.shift = nn.Parameter(torch.zeros(backbone.embed_dim))
        self.draws = Draws(seed)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 m w"]:
        """Return the context, the same for all images and classes."""
        return self.ctx[None, None]

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine to the raw text features plus the shift."""
        return out.logit_scale * out.zimg @ self._shifted(out).T

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross-entropy among the training classes, and λ that of the sentences among all.

        Every sentence about a class is to be nearest to that class's learned text feature, among those of all
        candidates: in training these are followed by the dataset's other classes.
        """
        sentences = F.normalize(out.text["sentences"], dim=-1)
        if self.training:
            generator = self.draws()
            if torch.rand(1, generator=generator).item() < 0.5:
                noise = torch.randn(sentences.shape, generator=generator).to(sentences)
                sentences = sentences + self.noise * noise
        each = out.logit_scale * torch.einsum("jd,tcd->tcj", self._shifted(out), sentences)
        classes = torch.arange(each.shape[2], device=each.device).repeat(len(each))
        return {
            "cross-entropy": F.cross_entropy(out.logits[:, : self.n_classes], labels),
            "text": self.weight * F.cross_entropy(each.flatten(0, 1), classes),
        }

    def _shifted(self, out: Output) -> Float[Tensor, "c d"]:
        """Return the learned text features, shifted and normalised."""
        return F.normalize(out.ftxt[0] + self.shift, dim=-1)
