"""Test images that are seen in several views, or one after the other: their order, and the answers."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cocoop.methods import Method
from cocoop.methods._hooks import WithObserve
from cocoop.training.screening import Predictor
from cocoop.utils.seeding import checked


def order_of(method: Method, images: int, seed: int) -> Int[Tensor, " n"] | None:
    """Return the order in which a method sees so many test images; None where that makes no difference.

    It is a function of the seed and the number of images alone.
    """
    if not isinstance(method, WithObserve):
        return None
    state = int(np.random.SeedSequence((checked(seed), images)).generate_state(1)[0])
    return torch.randperm(images, generator=torch.Generator().manual_seed(state))


def in_turn(
    answers: Predictor, fimg: Float[Tensor, "n *v d"], order: Int[Tensor, " n"] | None = None
) -> Float[Tensor, "n c"]:
    """Return the logits of test images, which the method sees in an order of theirs if there is one."""
    if fimg.dim() == 3 and fimg.shape[1] == 1:
        fimg = fimg[:, 0]
    if order is None:
        return answers.predict(fimg)
    return answers.predict(fimg[order])[order.argsort()]


def plain_views(fimg: Float[Tensor, "n *v d"]) -> Float[Tensor, "n d"]:
    """Return the test view of every image, the first where there are several."""
    return fimg[:, 0] if fimg.dim() == 3 else fimg
