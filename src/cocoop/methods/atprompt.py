"""ATPrompt on CoOp: learned vectors around fixed words for attributes (Li et al., ICCV 2025)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import PLACEHOLDER, Prompt
from cocoop.utils.seeding import checked


@dataclass(frozen=True)
class Config:
    """Settings of ATPrompt on CoOp.

    Attributes:
        attributes: words that every prompt has, each behind `n_att` vectors; those of ImageNet if not given.
        n_att: N, the vectors before each attribute.
        n_ctx: M, the vectors between the last attribute and the class name.
    """

    attributes: tuple[str, ...] = ("color", "shape")
    n_att: int = 2
    n_ctx: int = 2

    def __post_init__(self) -> None:
        if not self.attributes or not all(word.strip() for word in self.attributes):
            raise UsageError('give at least one attribute, e.g. ["color", "shape"]')
        if self.n_att < 1 or self.n_ctx < 1:
            raise UsageError(f"n_att and n_ctx must be at least 1, not {self.n_att} and {self.n_ctx}")


# The released attributes, found by a language model and a search on the data; none is searched here.
ATTRIBUTES = {
    "imagenet": ("color", "shape"),
    "caltech101": ("shape", "size"),
    "oxford_pets": ("playfulness", "energy"),
    "stanford_cars": ("luxury",),
    "oxford_flowers": ("color", "habitat", "growth"),
    "food101": ("flavor", "preparation"),
    "fgvc_aircraft": ("design", "range"),
    "sun397": ("function",),
    "dtd": ("pattern", "color", "design"),
    "eurosat": ("habitat",),
    "ucf101": ("precision",),
}
MORE: Mapping[str, Mapping[str, Any]] = {"dtd": {"n_att": 4, "n_ctx": 4}, "imagenet": {"epochs": 10}}
BY_DATASET: Mapping[str, Mapping[str, Any]] = {
    name: {"attributes": words, **MORE.get(name, {})} for name, words in ATTRIBUTES.items()
}


@METHODS.register("atprompt")
class Model(nn.Module):
    """Learned vectors before each attribute and before the class name (section 3.2)."""

    facts = Facts(
        name="ATPrompt",
        summary="is CoOp with fixed words for attributes among the learned vectors",
        paper=Paper(
            title="Advancing Textual Prompt Learning with Anchored Attributes",
            authors="Li et al.",
            venue="ICCV 2025",
            date="2024-12",
            link="https://arxiv.org/abs/2412.09442",
            code="https://github.com/zhengli97/ATPrompt",
        ),
        extends="coop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "atprompt-released": Preset(
            Config(), Recipe(epochs=100, batch_size=32), "the released configuration on CoOp", BY_DATASET
        ),
        "atprompt-quick": Preset(
            Config(), Recipe(epochs=20, batch_size=32), "fewer epochs than released, for the demo"
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        words: list[str] = []
        places: list[int] = []
        at = 0
        for attribute in cfg.attributes:
            words += [PLACEHOLDER] * cfg.n_att + [attribute]
            places += range(at, at + cfg.n_att)
            at += cfg.n_att + len(backbone.tokenize.inside(attribute))
        words += [PLACEHOLDER] * cfg.n_ctx
        places += range(at, at + cfg.n_ctx)
        text = f"{' '.join(words)} {{}}."
        self.prompts = (Prompt(text, len(places), places=tuple(places)),)
        generator = torch.Generator().manual_seed(checked(seed))
        start = torch.randn(len(places), backbone.width, generator=generator)
        start[: -cfg.n_ctx] *= 0.01
        start[-cfg.n_ctx :] *= 0.02
        self.ctx = nn.Parameter(start)  # (attributes n_att + n_ctx, w)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 m w"]:
        """Return all vectors in the order of the prompt, the same for all images and classes."""
        return self.ctx[None, None]
