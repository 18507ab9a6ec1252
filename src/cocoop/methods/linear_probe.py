"""Linear probing: logistic regression on image features (Radford et al., ICML 2021)."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import CocoopError, UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper, Selection
from cocoop.methods._hooks import NO_TEXT, Bank, Output, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt


@dataclass(frozen=True)
class Config:
    """Settings of linear probing.

    Attributes:
        grid: values of C, the inverse strength of the L2 penalty, that the search begins with.
        rounds: halvings of the interval around the best of them.
        c: C where there are no validation images.
        max_iter: iterations of L-BFGS, at most.
        selects_on: the validation images that C is selected on.
    """

    grid: tuple[float, ...] = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
    rounds: int = 8
    c: float = 0.316
    max_iter: int = 1000
    selects_on: Selection = "few-shot validation"

    def __post_init__(self) -> None:
        if not self.grid or not all(0 < c < math.inf for c in (*self.grid, self.c)):
            raise UsageError(f"grid and c must be positive numbers, one at least, not {self.grid}, {self.c}")
        if self.rounds < 0 or self.max_iter < 1:
            raise UsageError(f"rounds must be at least 0, max_iter 1, not {self.rounds}, {self.max_iter}")


@METHODS.register("linear-probe")
class Model(nn.Module):
    """Logistic regression on the raw features of test views; the class names are not read (section 3.2)."""

    facts = Facts(
        name="linear probing",
        summary="is logistic regression on the image features, and reads no class names",
        paper=Paper(
            title="Learning Transferable Visual Models From Natural Language Supervision",
            authors="Radford et al.",
            venue="ICML 2021",
            date="2021-02",
            link="https://arxiv.org/abs/2103.00020",
            code="https://github.com/KaiyangZhou/CoOp",
        ),
        training="closed form",
        selects_on="few-shot validation",
        bound=True,
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "linear-probe-released": Preset(
            Config(),
            Recipe(epochs=0, augmentation="none"),
            "CoOp's released linear probe; C without validation images is that of CLIP's example",
        )
    }
    transferable = False

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.selects_on = cfg.selects_on
        self.prompts = (Prompt(template),)
        self.width = backbone.width
        self.selected: dict[str, Any] = {}
        self.weight = nn.Parameter(torch.zeros(n_classes, backbone.embed_dim))  # (c, d), see `fit`
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Return the probe's logits of the raw image features."""
        return F.linear(out.fimg, self.weight[out.rows], self.bias[out.rows])

    @torch.no_grad()
    def fit(self, bank: Bank) -> None:
        """Take the best C of the grid, halve the interval around it, and keep the last half's better end.

        Raises:
            CocoopError: a class has no images, or there is only one.
        """
        count = len(self.bias)
        if count < 2 or len(bank.labels.unique()) < count:
            raise CocoopError("linear probing needs two classes at least, and images of each")
        fimg, labels = bank.fimg.flatten(0, 1), bank.labels.repeat(len(bank.fimg))

        @cache
        def probe(exponent: float) -> tuple[Tensor, Tensor]:
            return logistic_regression(fimg, labels, 10**exponent, self.cfg.max_iter)

        def right(exponent: float) -> int:
            weight, bias = probe(exponent)
            return int((F.linear(bank.fval, weight, bias).argmax(1) == bank.val_labels).sum())

        exponent = math.log10(self.cfg.c)
        if len(bank.fval):
            exponent = max((math.log10(c) for c in self.cfg.grid), key=right)  # the first of equals
            low, high = exponent - 1, exponent + 1
            for _ in range(self.cfg.rounds):
                middle = (low + high) / 2
                exponent = high if right(high) > right(low) else low
                low, high = (middle, high) if exponent == high else (low, middle)
        weight, bias = probe(exponent)
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        self.selected = {"c": 10**exponent}

    def finish(self, bank: Bank) -> dict[str, Any]:
        """Return the C that was selected."""
        return self.selected


def logistic_regression(
    fimg: Float[Tensor, "n d"], labels: Int[Tensor, " n"], c: float, max_iter: int
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Return weights and bias that minimise c * Σ cross-entropy + |weights|² / 2, by scikit-learn in fp64.

    Raises:
        CocoopError: scikit-learn is missing.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise CocoopError(f"linear probing needs scikit-learn: pip install scikit-learn ({error})") from None
    # not to be told of few images a class, nor of `max_iter`, where the released probe stops, too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = LogisticRegression(C=c, max_iter=max_iter)
        model.fit(fimg.double().cpu().numpy(), labels.cpu().numpy())
    weight, bias = (torch.from_numpy(each).to(fimg) for each in (model.coef_, model.intercept_))
    if len(bias) == 1:  # of two classes it fits the difference
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    return weight, bias
