"""Tip-Adapter-F: the cache of Tip-Adapter, whose keys are trained (Zhang et al., ECCV 2022)."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.methods import METHODS
from cocoop.methods._cache import class_weights, evidence, keys_by_class, plain, tuned
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Bank, Output, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.tip_adapter import BY_DATASET as CACHES
from cocoop.methods.tip_adapter import Config
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt

RECIPE = Recipe(
    epochs=20,
    batch_size=256,
    lr=1e-3,
    schedule="step",
    optimizer="adamw",
    eps=1e-4,
    weight_decay=0.01,
    keep="best",
    crop=0.5,
    views=10,
)
BY_DATASET: Mapping[str, Mapping[str, Any]] = {**CACHES, "eurosat": {**CACHES["eurosat"], "epochs": 100}}


@METHODS.register("tip-adapter-f")
class Model(nn.Module):
    """Tip-Adapter whose keys start from the cache and are learned."""

    facts = Facts(
        name="Tip-Adapter-F",
        summary="is Tip-Adapter whose cached features are trained",
        paper=Paper(
            title="Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification",
            authors="Zhang et al.",
            venue="ECCV 2022",
            date="2021-11",
            link="https://arxiv.org/abs/2207.09519",
            code="https://github.com/gaopengcuhk/Tip-Adapter",
        ),
        selects_on="few-shot validation",
        extends="tip-adapter",
        bound=True,
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "tip-adapter-f": Preset(
            Config(),
            RECIPE,
            "the released configuration, selecting the epoch, alpha and beta on few-shot validation images",
            BY_DATASET,
        ),
        "tip-adapter-f-released": Preset(
            Config(selects_on="test"),
            RECIPE,
            "the released configuration, which selects the epoch on test images; alpha and beta, which it "
            "searches on validation images but for ImageNet, are selected on test images too",
            BY_DATASET,
        ),
    }
    transferable = False
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
        self.keys = nn.Parameter(torch.empty(n_classes, 0, backbone.embed_dim))  # (c, k, d)
        self.register_buffer("held", torch.empty(n_classes, 0))  # (c, k)
        self.register_buffer("alpha", torch.tensor(cfg.alpha))
        self.register_buffer("beta", torch.tensor(cfg.beta))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine to the text features, plus the evidence of the cache; keys keep their length."""
        zero = out.logit_scale * out.zimg @ class_weights(out.text["classes"]).T
        return zero + self.alpha * evidence(out.zimg, self.keys[out.rows], self.held[out.rows], self.beta)

    def fit(self, bank: Bank) -> None:
        """Start from the cache."""
        self.keys.data, self.held = keys_by_class(bank.fimg, bank.labels, len(self.keys))

    def finish(self, bank: Bank) -> dict[str, float]:
        """Select beta and alpha, where there are validation images: the searched ones if they are better."""
        if len(bank.fval):
            given = self.beta.double()[None], self.alpha.double()[None]
            found = [tuned(bank, self.keys, self.held, *grid) for grid in (given, self.cfg.searched())]
            _, beta, alpha = max(found, key=itemgetter(0))  # the first of equals
            self.beta.fill_(beta)
            self.alpha.fill_(alpha)
        return {"alpha": plain(self.alpha), "beta": plain(self.beta)}
