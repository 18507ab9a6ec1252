"""APE: a cache in the channels that tell classes apart (Zhu et al., ICCV 2023), without training."""

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
from cocoop.methods._cache import check_grid, class_weights, evidence, keys_by_class, plain, scales, search
from cocoop.methods._facts import Facts, Paper, Selection
from cocoop.methods._hooks import NO_TEXT, Bank, Output, Text
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt

EPS = 1e-6  # of the divergence, as released
RN50 = 1024  # channels that the released numbers of channels are out of


@dataclass(frozen=True)
class Config:
    """Settings of APE.

    Attributes:
        channels: share of the channels that the cache keeps.
        similarity: λ, weight of a small similarity between classes in the choice of channels, where a large
            variance of the classes' text features has 1 - λ.
        alpha: weight of the cache beside zero-shot CLIP, where there is nothing to select on.
        beta: sharpness of the cache, where there is nothing to select on.
        gamma: how much more an image counts whose class the text features tell badly, where there is nothing
            to select on.
        highest: ends of the searches of beta and of alpha, which begin at 0.1, and of gamma, from 0.
        grid: numbers of values of each that are searched.
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
        selects_on: the images that beta, alpha and gamma are selected on.
    """

    channels: float = 800 / RN50
    similarity: float = 0.7
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 0.1
    highest: tuple[float, float, float] = (7.0, 7.0, 1.0)
    grid: tuple[int, int, int] = (200, 20, 20)
    templates: tuple[str, ...] = (DATASET,)
    selects_on: Selection = "few-shot validation"

    def __post_init__(self) -> None:
        check_grid(self.highest[:2], self.grid)
        if not self.highest[2] > 0:
            raise UsageError(
                f"highest of gamma must be above 0, where its search begins, not {self.highest[2]}"
            )
        if not 0 < self.channels <= 1:
            raise UsageError(f"channels is a share, above 0 and at most 1, not {self.channels}")


BY_DATASET: Mapping[str, Mapping[str, Any]] = {
    "imagenet": {
        "channels": 500 / RN50,
        "alpha": 2.0,
        "highest": (7.0, 7.0, 0.5),
        "grid": (200, 20, 5),
        "templates": ("select7",),
    },
    "caltech101": {"similarity": 0.5},
    "dtd": {"alpha": 3.0},
    "eurosat": {"channels": 700 / RN50, "similarity": 0.9, "highest": (30.0, 5.0, 1.5)},
    "fgvc_aircraft": {"similarity": 0.1, "alpha": 5.0, "highest": (20.0, 10.0, 1.0)},
    "food101": {"channels": 700 / RN50, "similarity": 0.3, "alpha": 0.8},
    "oxford_flowers": {"channels": 700 / RN50, "similarity": 0.4, "alpha": 3.0},
    "oxford_pets": {"alpha": 2.0},
    "stanford_cars": {"channels": 500 / RN50},
    "sun397": {"highest": (10.0, 7.0, 1.0)},
    "ucf101": {"channels": 700 / RN50, "similarity": 0.3, "alpha": 2.0, "highest": (10.0, 7.0, 1.5)},
}
ON_TEST = {"imagenet": {**BY_DATASET["imagenet"], "selects_on": "test"}}
RELEASED = (
    "the released configuration, that of ImageNet, DTD and Stanford Cars from its first version; "
    "its numbers of channels are shares of ResNet-50's, and its classes have the templates alone, "
    "without sentences of a language model"
)


@METHODS.register("ape")
class Model(nn.Module):
    """Tip-Adapter in chosen channels, whose images count by how badly text features tell their class."""

    facts = Facts(
        name="APE",
        summary="is Tip-Adapter in the channels that tell the classes apart",
        paper=Paper(
            title="Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior Refinement",
            authors="Zhu et al.",
            venue="ICCV 2023",
            date="2023-04",
            link="https://arxiv.org/abs/2304.01195",
            code="https://github.com/yangyangyang127/APE",
        ),
        training="closed form",
        selects_on="few-shot validation",
        extends="tip-adapter",
        bound=True,
        quick="ape",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "ape": Preset(
            Config(),
            Recipe(epochs=0, views=10, crop=0.5),
            f"{RELEASED}; selects on few-shot validation images",
            BY_DATASET,
        ),
        "ape-released": Preset(
            Config(selects_on="full validation"),
            Recipe(epochs=0, views=10, crop=0.5),
            f"{RELEASED}; selects on all validation images, on ImageNet on test images",
            {**BY_DATASET, **ON_TEST},
        ),
    }
    transferable = False
    channels: Tensor
    keys: Tensor
    held: Tensor
    divergence: Tensor
    alpha: Tensor
    beta: Tensor
    gamma: Tensor

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.selects_on = cfg.selects_on
        self.width = backbone.width
        self.prompts = (Prompt(template),)
        self.texts = {"classes": Templates(cfg.templates).texts(template)}
        self.register_buffer("channels", torch.empty(0, dtype=torch.long))  # (e,)
        self.register_buffer("keys", torch.empty(n_classes, 0, 0))  # (c, k, e)
        self.register_buffer("held", torch.empty(n_classes, 0))  # (c, k)
        self.register_buffer("divergence", torch.empty(n_classes, 0))  # (c, k)
        for name in ("alpha", "beta", "gamma"):
            self.register_buffer(name, torch.tensor(getattr(cfg, name)))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine to the text features in all channels, plus the evidence in the chosen ones."""
        zero = out.logit_scale * out.zimg @ class_weights(out.text["classes"]).T
        values = self.held[out.rows] * (self.gamma * self.divergence[out.rows]).exp()
        return zero + self.alpha * evidence(self._chosen(out.zimg), self.keys[out.rows], values, self.beta)

    def fit(self, bank: Bank) -> None:
        """Choose the channels and fill the cache.

        The divergence of an image, in bits, is that of its class from what the text features say of it.

        Raises:
            UsageError: there is one class alone.
        """
        weights = class_weights(bank.text["classes"])
        if len(weights) < 2:
            raise UsageError("APE chooses channels by what tells classes apart; it needs at least two")
        keys, self.held = keys_by_class(bank.fimg, bank.labels, len(weights))
        self.channels = self._best_channels(weights, keys)
        self.keys = self._chosen(keys)
        said = (self.keys @ self._chosen(weights).T).softmax(-1)  # (c, k, c)
        own = said.diagonal(dim1=0, dim2=2).T
        self.divergence = torch.log2((1 + EPS) / (own + EPS))

    def finish(self, bank: Bank) -> dict[str, float]:
        """Select beta, alpha and gamma, where there are validation images."""
        if len(bank.fval):
            zimg = F.normalize(bank.fval, dim=-1)
            zero = bank.logit_scale * zimg @ class_weights(bank.text["classes"]).T
            (high_beta, high_alpha, high_gamma), (s, a, g) = self.cfg.highest, self.cfg.grid
            betas, alphas = scales(high_beta, s), scales(high_alpha, a)
            gammas = scales(high_gamma, g, lowest=0.0).to(zero)
            values = self.held[:, :, None] * (gammas * self.divergence[:, :, None]).exp()
            _, (beta, alpha, gamma) = search(
                zero, bank.val_labels, self._chosen(zimg), self.keys, values, betas, alphas
            )
            self.beta.fill_(betas[beta])
            self.alpha.fill_(alphas[alpha])
            self.gamma.fill_(gammas[gamma])
        return {name: plain(getattr(self, name)) for name in ("alpha", "beta", "gamma")}

    def _chosen(self, features: Float[Tensor, "... d"]) -> Float[Tensor, "... e"]:
        """Return features in the chosen channels, normalised there."""
        return F.normalize(features[..., self.channels], dim=-1)

    def _best_channels(
        self, weights: Float[Tensor, "c d"], keys: Float[Tensor, "c k d"]
    ) -> Int[Tensor, " e"]:
        """Return channels that differ between classes: by their features' mean product, and text's variance.

        The products are those of all pairs of features, text's too, of different classes: the square of the
        sum of all features less those of the sums of each class.
        """
        sums, counts = weights + keys.sum(1), 1 + self.held.sum(1)
        pairs = counts.sum() ** 2 - (counts**2).sum()
        similarity = (sums.sum(0) ** 2 - (sums**2).sum(0)) / pairs
        score = (1 - self.cfg.similarity) * weights.var(0) - self.cfg.similarity * similarity
        return score.topk(max(1, int(self.cfg.channels * len(score)))).indices
