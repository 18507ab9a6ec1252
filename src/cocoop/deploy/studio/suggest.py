"""What features tell of images: names, groups, what to label next, labels that look wrong. Pure functions."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

GROUPS = (4, 48)  # at least, where there are as many images, and at most; between them the root of the images
NEXT = 256  # images that are proposed to be labelled next
POOL = 2048  # of the least certain ones, from which these are chosen
SHOWN = 3  # names that are suggested for an image
SHARPNESS = 20.0  # of the softmax over cosines to the means of labelled images


class Tops(NamedTuple):
    """The likeliest names of images.

    Attributes:
        places: of the names, the likeliest first.
        chances: their probabilities.
        unsure: 0 for an image that has one name for certain, 1 for one between two.
    """

    places: Int[ndarray, "n k"]
    chances: Float[ndarray, "n k"]
    unsure: Float[ndarray, " n"]


def tops(chances: Float[ndarray, "n c"]) -> Tops:
    """Return the likeliest names of every image by their probabilities; of one name alone nothing is sure."""
    count = min(SHOWN, chances.shape[1])
    places = np.argpartition(-chances, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(chances, places, 1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, 1)
    best = np.take_along_axis(chances, places, 1)
    unsure = 1 - (best[:, 0] - best[:, 1]) if count > 1 else np.ones(len(best), best.dtype)
    return Tops(places.astype(np.int32), best, unsure)


def groups(unit: Float[ndarray, "n d"], seed: int = 0) -> tuple[Int[ndarray, " n"], Float[ndarray, "g d"]]:
    """Return the group of every image, the largest group first, and the groups' centres.

    Args:
        unit: image features of length 1.
        seed: of what k-means draws.
    """
    if not len(unit):
        return np.empty(0, np.int32), np.empty((0, unit.shape[1]), unit.dtype)
    from sklearn.cluster import MiniBatchKMeans  # a second to import

    count = min(len(unit), max(GROUPS[0], min(GROUPS[1], round(math.sqrt(len(unit))))))
    means = MiniBatchKMeans(count, random_state=seed, batch_size=1024, n_init=1, max_iter=30)
    found = means.fit(unit).labels_
    sizes = np.bincount(found, minlength=count)
    order = np.argsort(-sizes, kind="stable")
    order = order[: int((sizes > 0).sum())]
    rank = np.zeros(count, np.int32)
    rank[order] = np.arange(len(order))
    return rank[found], means.cluster_centers_[order]


def typical(
    unit: Float[ndarray, "n d"], group: Int[ndarray, " n"], centres: Float[ndarray, "g d"], count: int
) -> list[Int[ndarray, " _"]]:
    """Return for every group the places of the images nearest to its centre, the nearest first."""
    near = (unit * centres[group]).sum(1)
    found = []
    for each in range(len(centres)):
        members = np.flatnonzero(group == each)
        found.append(members[np.argsort(-near[members], kind="stable")[:count]])
    return found


def next_ones(
    unit: Float[ndarray, "n d"],
    unsure: Float[ndarray, " n"] | None,
    labelled: Bool[ndarray, " n"],
    count: int = NEXT,
) -> Int[ndarray, " k"]:
    """Return the images most useful to label next, the most useful first: unsure ones that are unlike others.

    Each next one has the largest product of its unsureness and its distance (1 - cosine) to the nearest image
    that is labelled or was chosen before: the farthest-first traversal of k-center active learning (Sener
    and Savarese, ICLR 2018), weighted.

    Args:
        unit: image features of length 1.
        unsure: of every image; None where nothing is suggested, so that unlike ones are chosen alone.
        labelled: images that are labelled already.
        count: how many to choose.
    """
    free = np.flatnonzero(~labelled)
    weight = np.ones(len(unit), np.float32) if unsure is None else unsure.astype(np.float32) + 1e-3
    if len(free) > POOL:
        spread = free[np.linspace(0, len(free) - 1, POOL).astype(int)]
        free = spread if unsure is None else free[np.argsort(-weight[free], kind="stable")[:POOL]]
    if not len(free):
        return free
    pool, chosen = unit[free], []
    distance = 1 - _nearest(pool, unit[labelled])
    score_of = weight[free]
    for _ in range(min(count, len(free))):
        best = int((score_of * np.maximum(distance, 1e-6)).argmax())
        chosen.append(best)
        score_of[best] = -1  # once is enough
        distance = np.minimum(distance, 1 - pool @ pool[best])
    return free[chosen]


def suspicion(
    unit: Float[ndarray, "m d"], labels: Int[ndarray, " m"], zero_shot: Float[ndarray, "m c"]
) -> Float[ndarray, " m"]:
    """Return how suspicious the label of every labelled image is: above 0 where another name is likelier.

    An image's chances are the mean of two softmaxes: zero-shot CLIP's, and that of its cosines to the mean of
    the *other* labelled images of every name, all features less their mean. The value is the chance of
    the likeliest other name less that of the label: the negative of confident learning's normalised margin
    (Northcutt et al., JAIR 2021), which asks for chances that the label itself had no part in.

    Args:
        unit: features of length 1 of the labelled images.
        labels: the place of each one's name among c.
        zero_shot: logits of the c names.
    """
    count, rows = zero_shot.shape[1], np.arange(len(unit))
    if count < 2 or not len(unit):
        return np.full(len(unit), -1.0, np.float32)
    centred = unit - unit.mean(0)
    centred = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    sums = np.zeros((count, unit.shape[1]), np.float32)
    np.add.at(sums, labels, centred)
    sizes = np.bincount(labels, minlength=count)
    lengths = np.linalg.norm(sums, axis=1)
    cosines = centred @ sums.T / np.maximum(lengths, 1e-12)
    own = sums[labels] - centred  # of the others with the same label
    cosines[rows, labels] = (own * centred).sum(1) / np.maximum(np.linalg.norm(own, axis=1), 1e-12)
    logits = np.where(sizes > 0, SHARPNESS * cosines, -np.inf)
    alone = sizes[labels] < 2  # there is no other image to compare with
    chances = softmax(zero_shot)
    chances[~alone] = (chances[~alone] + softmax(logits[~alone])) / 2
    label = chances[rows, labels].copy()
    chances[rows, labels] = -1
    return chances.max(1) - label


def softmax(logits: Float[ndarray, "n c"]) -> Float[ndarray, "n c"]:
    """Return the softmax of every row."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _nearest(some: Float[ndarray, "n d"], others: Float[ndarray, "m d"]) -> Float[ndarray, " n"]:
    """Return the highest cosine of each to one of the others, without all of them in memory at once."""
    best = np.full(len(some), -1, np.float32)
    for start in range(0, len(others), 1024):
        best = np.maximum(best, (some @ others[start : start + 1024].T).max(1))
    return best
