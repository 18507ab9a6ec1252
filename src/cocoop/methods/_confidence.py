"""How sure CLIP is of views of an image: what test-time methods take views by."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def surest(logits: Float[Tensor, "n v c"], share: float) -> Int[Tensor, "n k"]:
    """Return the views of lowest entropy of every image: this share of them, rounded down, or one."""
    return entropy(logits).argsort(dim=1, stable=True)[:, : max(1, int(logits.shape[1] * share))]


def picked(values: Float[Tensor, "n v e"], views: Int[Tensor, "n k"]) -> Float[Tensor, "n k e"]:
    """Return what there is of some views of every image."""
    return values.take_along_dim(views[:, :, None], dim=1)


def entropy(logits: Float[Tensor, "*n c"]) -> Float[Tensor, "*n"]:
    """Return the entropy of the probabilities, in nats."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def entropy_of_mean(logits: Float[Tensor, "n k c"]) -> Float[Tensor, " n"]:
    """Return the entropy of the probabilities averaged over the views, in nats."""
    mean = torch.logsumexp(logits.log_softmax(-1), dim=1) - math.log(logits.shape[1])
    return -(mean.exp() * mean).sum(-1)
