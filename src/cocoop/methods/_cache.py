"""What caches of few-shot features share: keys by class, their evidence, and the search of scales."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cocoop.errors import UsageError
from cocoop.methods._hooks import Bank

LOWEST = 0.1  # of the scales that are searched
AT_ONCE = 1 << 19  # numbers held at a time in a search

Best = tuple[int, tuple[int, int, int]]  # images that are right; places of beta, alpha and gamma in the grid


def class_weights(text: Float[Tensor, "t c d"]) -> Float[Tensor, "c d"]:
    """Return the normalised mean of the templates' normalised features."""
    return F.normalize(F.normalize(text, dim=-1).mean(0), dim=-1)


def keys_by_class(
    fimg: Float[Tensor, "v n d"], labels: Int[Tensor, " n"], classes: int
) -> tuple[Float[Tensor, "c k d"], Float[Tensor, "c k"]]:
    """Return the cache: for every image the normalised mean of its views' raw features.

    Args:
        fimg: views of the images.
        labels: their classes.
        classes: how many there are.

    Returns:
        The keys, class by class, and 1 where there is one; a class of fewer images than another has zeros.
    """
    order = labels.argsort(stable=True)
    counts = labels.bincount(minlength=classes)
    place = torch.arange(len(labels), device=labels.device) - (counts.cumsum(0) - counts)[labels[order]]
    keys = fimg.new_zeros(classes, int(counts.max()), fimg.shape[2])
    held = fimg.new_zeros(keys.shape[:2])
    keys[labels[order], place] = F.normalize(fimg.mean(0), dim=-1)[order]
    held[labels[order], place] = 1
    return keys, held


def evidence(
    zimg: Float[Tensor, "b d"], keys: Float[Tensor, "c k d"], values: Float[Tensor, "c k"], beta: Tensor
) -> Float[Tensor, "b c"]:
    """Return the sum over the keys of a class of value * exp(-beta (1 - cosine))."""
    affinity = torch.einsum("bd,ckd->bck", zimg, keys)
    return torch.einsum("bck,ck->bc", (beta * (affinity - 1)).exp(), values)


def scales(highest: float, steps: int, lowest: float = LOWEST) -> Float[Tensor, " s"]:
    """Return evenly spaced values from the lowest on; the highest is not among them, as released."""
    return lowest + (highest - lowest) * torch.arange(steps, dtype=torch.float64) / steps


def plain(scale: Tensor) -> float:
    """Return a scale as it is recorded: without the digits that single precision has no say in."""
    return float(f"{scale.item():.6g}")


def check_grid(highest: tuple[float, ...], grid: tuple[int, ...]) -> None:
    """Raise UsageError where a search would have nothing to search."""
    if min(grid) < 1:
        raise UsageError(f"grid must be at least 1 each, not {grid}: there would be nothing to search")
    if not all(LOWEST < value < math.inf for value in highest):
        raise UsageError(f"highest must be above {LOWEST} each, where a search begins, not {highest}")


def tuned(
    bank: Bank,
    keys: Float[Tensor, "c k d"],
    held: Float[Tensor, "c k"],
    betas: Float[Tensor, " s"],
    alphas: Float[Tensor, " a"],
) -> tuple[int, float, float]:
    """Return how many validation images are right with the first best beta and alpha, and these two.

    Args:
        bank: has the validation images, and the templates' features under the name "classes".
        keys: of the cache.
        held: where there are keys.
        betas: to search.
        alphas: to search.
    """
    zimg = F.normalize(bank.fval, dim=-1)
    zero = bank.logit_scale * zimg @ class_weights(bank.text["classes"]).T
    right, (beta, alpha, _) = search(zero, bank.val_labels, zimg, keys, held[:, :, None], betas, alphas)
    return right, float(betas[beta]), float(alphas[alpha])


@torch.no_grad()
def search(
    zero: Float[Tensor, "m c"],
    labels: Int[Tensor, " m"],
    zimg: Float[Tensor, "m d"],
    keys: Float[Tensor, "c k d"],
    values: Float[Tensor, "c k g"],
    betas: Float[Tensor, " s"],
    alphas: Float[Tensor, " a"],
) -> Best:
    """Find the scales by which zero + alpha * evidence has most images right.

    For one beta an image is right on an open interval of alpha, of which each wrong class gives a bound; so
    all alphas cost what one does.

    Args:
        zero: logits without the cache.
        labels: the true classes.
        zimg: what is compared with the keys.
        keys: of the cache.
        values: of the keys, for every gamma.
        betas: to search.
        alphas: to search, positive.

    Returns:
        How many images are right, and the first best place in the grid: beta counts before alpha, alpha
        before gamma, as in nested loops.
    """
    (classes, slots, gammas), alphas = values.shape, alphas.to(zero)[:, None, None]
    correct = torch.zeros(len(betas), len(alphas), gammas, dtype=torch.long, device=zero.device)
    pieces = (each.split(max(1, AT_ONCE // (classes * max(slots, gammas)))) for each in (zero, labels, zimg))
    for base, truth, images in zip(*pieces, strict=True):
        row = torch.arange(len(truth), device=truth.device)
        lead = (base - base[row, truth, None]).T  # (c, r): what a class is ahead of the true one
        lead[truth, row] = -math.inf  # the true one is no bound
        affinity = torch.einsum("rd,ckd->crk", images, keys)
        for place, beta in enumerate(betas.tolist()):
            sums = (beta * (affinity - 1)).exp() @ values  # (c, r, g)
            gain = sums[truth, row] - sums
            bound = lead[:, :, None] / gain
            low = bound.where(gain >= 0, -math.inf).amax(0)
            high = bound.where(gain < 0, math.inf).amin(0)
            correct[place] += ((low < alphas) & (alphas < high)).sum(1)
    first = int(correct.argmax())  # the first of equals
    beta, rest = divmod(first, correct[0].numel())
    return int(correct.flatten()[first]), (beta, *divmod(rest, gammas))
