"""The image tower: EfficientNet-Lite0 with the weights of a package, and what follows from its classifier."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import Tensor, nn

ARCHITECTURE = "tf_efficientnet_lite0"  # the padding and the epsilon that the weights were trained with
DIM = 256  # of the joint space


def tower(weights: Path) -> nn.Module:
    """timm's model with the weights of a package that has the same layers in the same order."""
    model = timm.create_model(ARCHITECTURE, pretrained=False).eval()
    state = torch.load(weights, weights_only=True)
    own = model.state_dict()
    if [value.shape for value in state.values()] != [value.shape for value in own.values()]:
        raise SystemExit(f"{weights} does not have the layers of {ARCHITECTURE}")
    model.load_state_dict(dict(zip(own, state.values(), strict=True)))
    return model


def classes_and_projection(weight: Tensor, dim: int = DIM) -> tuple[Tensor, Tensor]:
    """The classes of a classifier (c, w) in a joint space, unit vectors (c, dim), and the way there (w, dim).

    The classifier W, less its mean row, is U S V^T. Projected by V, a feature f scores U S V^T f: the class
    vectors are rows of U S, and only the strongest directions are kept.
    """
    left, strength, right = torch.linalg.svd(weight.double() - weight.double().mean(0), full_matrices=False)
    rows = torch.nn.functional.normalize(left[:, :dim] * strength[:dim], dim=1)
    return rows.float(), right[:dim].T.float()


def mean_feature(norm: nn.BatchNorm2d) -> Tensor:
    """The mean of a pooled feature (w,), from the weights alone.

    Over its training images, a batch norm's output has its bias as mean and its weight as deviation; taken
    as normal, its mean after ReLU6 follows by integration. Pooling keeps means.
    """
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2)
    values = norm.bias.detach().double()[:, None] + norm.weight.detach().double().abs()[:, None] * z
    return (values.clamp(0, 6) @ (density / density.sum())).float()
