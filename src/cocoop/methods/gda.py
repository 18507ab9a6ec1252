"""GDA: Gaussian discriminant analysis beside zero-shot CLIP, in closed form (Wang et al., ICLR 2024)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._cache import class_weights, plain
from cocoop.methods._facts import Facts, Paper, Selection
from cocoop.methods._hooks import NO_TEXT, Bank, Output, Text
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt


@dataclass(frozen=True)
class Config:
    """Settings of GDA.

    Attributes:
        alpha: weight of the Gaussian classifier beside zero-shot CLIP, where there is nothing to select on.
        alphas: those that are searched; the first of the best is taken.
        covariance: "shrunk" for that of all views, drawn to a multiple of the identity, or
            "mean" for the mean of the classes' own, as it is.
        nearest: training views that the Gaussian of a name that was not trained on is made from.
        copies: of the text feature, that count as views of such a name.
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
        selects_on: the images that alpha is selected on.
    """

    alpha: float = 0.1
    alphas: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
    covariance: Literal["shrunk", "mean"] = "shrunk"
    nearest: int = 64
    copies: int = 16
    templates: tuple[str, ...] = (DATASET,)
    selects_on: Selection = "few-shot validation"

    def __post_init__(self) -> None:
        if not self.alphas:
            raise UsageError("alphas is empty: there would be nothing to search")
        if self.nearest < 2 or self.copies < 0:
            raise UsageError(
                f"nearest must be at least 2 and copies at least 0, not {self.nearest} and {self.copies}"
            )


BY_DATASET: Mapping[str, Mapping[str, Any]] = {"imagenet": {"templates": ("select7",)}}
ON_TEST = {"imagenet": {**BY_DATASET["imagenet"], "selects_on": "test"}}


@METHODS.register("gda")
class Model(nn.Module):
    """Zero-shot logits plus alpha times those of Gaussian classes with one covariance."""

    facts = Facts(
        name="GDA",
        summary="adds a Gaussian classifier of the few shots to zero-shot CLIP, without training",
        paper=Paper(
            title="A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation",
            authors="Wang et al.",
            venue="ICLR 2024",
            date="2024-02",
            link="https://arxiv.org/abs/2402.04087",
            code="https://github.com/mrflogs/ICLR24",
        ),
        training="closed form",
        selects_on="few-shot validation",
        quick="gda",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "gda": Preset(
            Config(),
            Recipe(epochs=0, views=10, crop=0.5),
            "the released few-shot code, selecting on few-shot validation images",
            BY_DATASET,
        ),
        "gda-released": Preset(
            Config(selects_on="full validation"),
            Recipe(epochs=0, views=10, crop=0.5),
            "the released few-shot code, which selects on all validation images, on ImageNet on test images",
            {**BY_DATASET, **ON_TEST},
        ),
        "gda-base-to-new": Preset(
            Config(covariance="mean", selects_on="full validation"),
            Recipe(epochs=0, views=10, crop=0.5),
            "the released base-to-new code, which selects on all validation images of the base classes, on "
            "ImageNet on test images",
            {**BY_DATASET, **ON_TEST},
        ),
    }
    transferable = True
    weight: Tensor
    bias: Tensor
    views: Tensor
    alpha: Tensor

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.selects_on = cfg.selects_on
        self.width = backbone.width
        self.prompts = (Prompt(template),)
        self.texts = {"classes": Templates(cfg.templates).texts(template)}
        self.register_buffer("weight", torch.empty(0, backbone.embed_dim))  # (c, d)
        self.register_buffer("bias", torch.empty(0))  # (c,)
        self.register_buffer("views", torch.empty(0, backbone.embed_dim))  # (n, d)
        self.register_buffer("alpha", torch.tensor(cfg.alpha))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine to the text features, plus the Gaussian classifier once it is fitted."""
        zero = out.logit_scale * out.zimg @ class_weights(out.text["classes"]).T
        if not len(self.weight):
            return zero
        if out.rows is None:
            weight, bias = out.text["weight"], out.text["bias"]
        else:
            weight, bias = self.weight[out.rows], self.bias[out.rows]
        return zero + self.alpha * (out.zimg @ weight.T + bias)

    def fit(self, bank: Bank) -> None:
        """Compute the Gaussian classifier of the training classes.

        Raises:
            UsageError: a class has no image, or one view alone where each has a covariance of its own.
        """
        views, dim = F.normalize(bank.fimg, dim=-1).flatten(0, 1), bank.fimg.shape[2]
        labels = bank.labels.repeat(len(bank.fimg))
        counts = labels.bincount(minlength=bank.text["classes"].shape[1])
        least = 2 if self.cfg.covariance == "mean" else 1
        if counts.min() < least:
            raise UsageError(f"GDA needs {least} view(s) of each class; one has {int(counts.min())}")
        means = views.new_zeros(len(counts), dim).index_add(0, labels, views) / counts[:, None]
        centred = views - means[labels]
        if self.cfg.covariance == "mean":
            shares = 1 / ((counts - 1) * len(counts)).to(views)[labels, None]
            inverse = torch.linalg.pinv((centred * shares).T @ centred, hermitian=True)
        else:
            scatter = centred.T @ centred
            ridge = scatter.trace() / (len(views) - 1) * torch.eye(dim).to(scatter)
            inverse = dim * torch.linalg.pinv(scatter + ridge, hermitian=True)
        self.views = views
        self.weight, self.bias = _classifier(means, inverse)

    def finish(self, bank: Bank) -> dict[str, float]:
        """Select alpha, where there are validation images."""
        if len(bank.fval):
            zimg = F.normalize(bank.fval, dim=-1)
            zero = bank.logit_scale * zimg @ class_weights(bank.text["classes"]).T
            gaussian = zimg @ self.weight.T + self.bias
            predicted = torch.stack([(zero + alpha * gaussian).argmax(1) for alpha in self.cfg.alphas])
            right = (predicted == bank.val_labels).sum(1)
            self.alpha.fill_(self.cfg.alphas[int(right.argmax())])  # the first of equals
        return {"alpha": plain(self.alpha)}

    def derive(self, text: Text, rows: Int[Tensor, " c"] | None) -> Text:
        """Make a classifier for names that were not all trained on, from the views nearest to each.

        The mean has copies of the text feature, the covariance is around it, and its inverse is the mean of
        all names' inverses, as released. With X the k views less the text feature, that of a name is
        d (XᵀX + τI)⁻¹; Woodbury's identity leaves a system of size k.
        """
        if rows is not None or not len(self.weight):
            return {}
        names = class_weights(text["classes"])
        near = self.views[(names @ self.views.T).topk(min(self.cfg.nearest, len(self.views))).indices]
        (classes, k, dim), copies = near.shape, self.cfg.copies
        means = (near.sum(1) + copies * names) / (k + copies)
        apart = near - names[:, None]  # (c, k, d)
        tau = apart.square().sum((1, 2)) / (k - 1)
        gram = apart @ apart.mT + tau[:, None, None] * torch.eye(k).to(apart)
        solved = torch.linalg.solve(gram, apart) / (classes * tau[:, None, None])
        inverse = (1 / tau).mean() * torch.eye(dim).to(apart) - apart.flatten(0, 1).T @ solved.flatten(0, 1)
        weight, bias = _classifier(means, dim * inverse)
        return {"weight": weight, "bias": bias}


def _classifier(
    means: Float[Tensor, "c d"], inverse: Float[Tensor, "d d"]
) -> tuple[Float[Tensor, "c d"], Float[Tensor, " c"]]:
    """Return weights and biases of Gaussians with one covariance and equal priors."""
    weight = means @ inverse
    return weight, -math.log(len(means)) - (weight * means).sum(1) / 2
