"""Tip-Adapter: the few shots as a cache beside zero-shot CLIP, without training (Zhang et al., ECCV 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.methods import METHODS
from cocoop.methods._cache import check_grid, class_weights, evidence, keys_by_class, plain, scales, tuned
from cocoop.methods._facts import Facts, Paper, Selection
from cocoop.methods._hooks import NO_TEXT, Bank, Output, Text
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt


@dataclass(frozen=True)
class Config:
    """Settings of Tip-Adapter.

    Attributes:
        alpha: weight of the cache beside zero-shot CLIP, where there is nothing to select on.
        beta: sharpness of the cache, where there is nothing to select on.
        highest: ends of the searches of beta and of alpha, which begin at 0.1.
        grid: numbers of values of beta and of alpha that are searched.
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
        selects_on: the images that beta and alpha are selected on.
    """

    alpha: float = 1.17
    beta: float = 1.0
    highest: tuple[float, float] = (7.0, 3.0)
    grid: tuple[int, int] = (200, 20)
    templates: tuple[str, ...] = (DATASET,)
    selects_on: Selection = "few-shot validation"

    def __post_init__(self) -> None:
        check_grid(self.highest, self.grid)

    def searched(self) -> tuple[Float[Tensor, " s"], Float[Tensor, " a"]]:
        """Return the values of beta and of alpha that are searched."""
        return scales(self.highest[0], self.grid[0]), scales(self.highest[1], self.grid[1])


# Oxford Pets has the values of ImageNet, the default; so has what is not in the paper.
BY_DATASET: Mapping[str, Mapping[str, Any]] = {
    "imagenet": {"templates": ("select7",)},
    "caltech101": {"alpha": 3.0, "highest": (12.0, 5.0)},
    "dtd": {"alpha": 2.0, "highest": (13.0, 13.0)},
    "eurosat": {"alpha": 2.0, "highest": (12.0, 10.0)},
    "fgvc_aircraft": {"alpha": 5.0, "highest": (30.0, 30.0)},
    "food101": {"highest": (10.0, 10.0)},
    "oxford_flowers": {"alpha": 10.0, "highest": (50.0, 50.0)},
    "stanford_cars": {"alpha": 3.0, "highest": (20.0, 10.0)},
    "sun397": {"highest": (12.0, 10.0)},
    "ucf101": {"alpha": 3.0},
}
ON_TEST = {"imagenet": {**BY_DATASET["imagenet"], "selects_on": "test"}}


@METHODS.register("tip-adapter")
class Model(nn.Module):
    """Zero-shot logits plus alpha times those of a cache of the few shots."""

    facts = Facts(
        name="Tip-Adapter",
        summary="asks a cache of the few shots beside zero-shot CLIP, without training",
        paper=Paper(
            title="Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification",
            authors="Zhang et al.",
            venue="ECCV 2022",
            date="2021-11",
            link="https://arxiv.org/abs/2207.09519",
            code="https://github.com/gaopengcuhk/Tip-Adapter",
        ),
        training="closed form",
        selects_on="few-shot validation",
        bound=True,
        quick="tip-adapter",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "tip-adapter": Preset(
            Config(),
            Recipe(epochs=0, views=10, crop=0.5),
            "the released configuration, selecting on few-shot validation images",
            BY_DATASET,
        ),
        "tip-adapter-released": Preset(
            Config(selects_on="full validation"),
            Recipe(epochs=0, views=10, crop=0.5),
            "the released configuration, which selects on all validation images, on ImageNet on test images",
            {**BY_DATASET, **ON_TEST},
        ),
    }
    transferable = False
    keys: Tensor
    held: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.selects_on = cfg.selects_on
        self.width = backbone.width
        self.prompts = (Prompt(template),)
        self.texts = {"classes": Templates(cfg.templates).texts(template)}
        self.register_buffer("keys", torch.empty(n_classes, 0, backbone.embed_dim))  # (c, k, d)
        self.register_buffer("held", torch.empty(n_classes, 0))  # (c, k)
        self.register_buffer("alpha", torch.tensor(cfg.alpha))
        self.register_buffer("beta", torch.tensor(cfg.beta))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine to the text features, plus the evidence of the cache."""
        zero = out.logit_scale * out.zimg @ class_weights(out.text["classes"]).T
        return zero + self.alpha * evidence(out.zimg, self.keys[out.rows], self.held[out.rows], self.beta)

    def fit(self, bank: Bank) -> None:
        """Fill the cache."""
        self.keys, self.held = keys_by_class(bank.fimg, bank.labels, len(self.keys))

    def finish(self, bank: Bank) -> dict[str, float]:
        """Select beta and alpha, where there are validation images."""
        if len(bank.fval):
            _, beta, alpha = tuned(bank, self.keys, self.held, *self.cfg.searched())
            self.beta.fill_(beta)
            self.alpha.fill_(alpha)
        return {"alpha": plain(self.alpha), "beta": plain(self.beta)}
