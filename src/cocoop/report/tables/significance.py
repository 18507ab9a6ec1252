"""Whether a method is better than another by more than chance: a p value for every row of a table.

The images of a test are the same for both methods, so they are compared in pairs: images are drawn anew with
replacement, and it is counted how often the difference of the scores has the other sign (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993). That says how far the test set decides, not what another
draw of training images would give; where there are five seeds or more, Student's paired test over seeds does.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from cocoop.errors import unknown
from cocoop.experiments.aggregate import AVERAGE
from cocoop.experiments.record import Record
from cocoop.experiments.store import Store
from cocoop.report.tables.blocks import SCORES, method_of
from cocoop.report.tables.results import Results

RESAMPLES = 10_000
FEWEST_SEEDS = 5  # from which on seeds are compared, not images

Parts = Float[np.ndarray, "parts n"]  # accuracies of the parts of a score, in resamples or by seed


def significance(result: Results, store: Store, reference: str) -> "pd.Series[float]":
    """Return the two-sided p value of every row of a protocol's table: its score against the reference's.

    The score is what methods are compared by: H, or the accuracy on all images, on the target or with the
    most shots. NaN where there is nothing to compare: for the reference, and where its tests are missing.

    Args:
        result: with its table.
        store: of its predictions.
        reference: a label of the table, or a method that has one.

    Raises:
        UsageError: the table has no such method.
        CocoopError: predictions are damaged.
    """
    frame = result.frame
    labels = list(dict.fromkeys(frame["method"]))
    found = next((label for label in labels if reference in (label, method_of(label))), None)
    if found is None:
        raise unknown("method of this table", reference, labels)
    rows = _by_row(result)
    halves = "H" in frame
    pairs = {
        (row, label): _compared(records, rows[row, found], store, halves) if (row, found) in rows else None
        for (row, label), records in rows.items()
        if label != found
    }

    def p_value(dataset: str, label: str) -> float:
        if dataset != AVERAGE:
            return _p_value([pairs.get((dataset, label))])
        return _p_value([pair for (_, other), pair in pairs.items() if other == label])

    return pd.Series(
        [p_value(*key) for key in zip(frame["dataset"], frame["method"], strict=True)],
        frame.index,
        dtype=float,
    )


def explained(result: Results, reference: str) -> str:
    """Return in a sentence what the column says."""
    score = next((name for name in SCORES if name in result.frame), "accuracy")
    seeds = {record.cell.training.seed for record in result.records if record.cell.training.learns}
    how = (
        f"paired bootstrap over the test images, {RESAMPLES:,} resamples, seeds averaged"
        if len(seeds) < FEWEST_SEEDS
        else f"paired t-test over {len(seeds)} seeds"
    )
    return (
        f"p: two-sided, of {score} against {reference}; {how}; not corrected for the number of comparisons."
    )


def _by_row(result: Results) -> dict[tuple[str, str], list[Record]]:
    """Return the records behind the score of every row of a table but the averages."""
    most = max((record.cell.training.shots for record in result.records), default=0)
    rows: dict[tuple[str, str], list[Record]] = {}
    for record in result.records:
        training, row = record.cell.training, result.row_of(record)
        if row is not None and training.shots in (0, most):
            rows.setdefault((row, training.label), []).append(record)
    return rows


def _compared(
    ours: Sequence[Record], theirs: Sequence[Record], store: Store, halves: bool
) -> tuple[Parts, Parts] | None:
    """Return the parts of both scores, by seed where there are enough, else in resamples of the images."""
    sides = [_hits(records, store, halves) for records in (ours, theirs)]
    if sides[0].keys() != sides[1].keys():
        return None
    parts = [(sides[0][name], sides[1][name]) for name in sorted(sides[0])]
    sizes = {side.shape[0] for part in parts for side in part} - {1}
    if len(sizes) > 1 or any(one.shape[1] != other.shape[1] for one, other in parts):
        return None
    seeds = max(sizes, default=1)
    means: list[tuple[np.ndarray, ...]]
    if seeds >= FEWEST_SEEDS:
        means = [tuple(np.broadcast_to(side.mean(1), seeds) for side in part) for part in parts]
    else:
        means = [_resampled(one.mean(0), other.mean(0)) for one, other in parts]
    return np.stack([mean[0] for mean in means]), np.stack([mean[1] for mean in means])


def _hits(records: Sequence[Record], store: Store, halves: bool) -> dict[str, Float[np.ndarray, "seeds n"]]:
    """Return which test images are right, in percent, by part of the score; rows are seeds in their order."""
    by_part: dict[str, dict[int, list[np.ndarray]]] = {}
    for record in sorted(records, key=lambda each: each.cell.testing.subset):
        top = store.predictions(record)
        right = 100.0 * (top.classes[:, 0] == top.labels).numpy()
        seeds = by_part.setdefault(record.cell.testing.subset if halves else "", {})
        seeds.setdefault(record.cell.training.seed, []).append(right)
    return {
        part: np.stack([np.concatenate(seeds[seed]) for seed in sorted(seeds)])
        for part, seeds in by_part.items()
    }


def _resampled(
    one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " resamples"], Float[np.ndarray, " resamples"]]:
    """Return the means of both in resamples of the images, the same images for both.

    Images with the same two values are drawn together: how often each pair of values comes is multinomial.
    """
    values, counts = np.unique(np.stack([one, other], axis=1), axis=0, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(one), counts / len(one), size=RESAMPLES) / len(one)
    return drawn @ values[:, 0], drawn @ values[:, 1]


def _p_value(pairs: Sequence[tuple[Parts, Parts] | None]) -> float:
    """Return the p value of the mean over datasets; NaN where one of them has nothing to compare."""
    known = [pair for pair in pairs if pair is not None]
    if not known or len(known) < len(pairs) or len({pair[0].shape for pair in known}) > 1:
        return float("nan")
    one, other = (np.mean([pair[side] for pair in known], axis=0) for side in (0, 1))
    difference = _score(one) - _score(other)
    if len(difference) < RESAMPLES:
        return _t_test(difference)
    tails = ((difference <= 0).sum(), (difference >= 0).sum())
    return float(min(1.0, 2 * (min(tails) + 1) / (RESAMPLES + 1)))


def _score(parts: Parts) -> Float[np.ndarray, " n"]:
    if len(parts) == 1:
        return parts[0]
    return 2 * parts[0] * parts[1] / np.maximum(parts[0] + parts[1], np.finfo(float).tiny)


def _t_test(difference: Float[np.ndarray, " n"]) -> float:
    from scipy.stats import ttest_1samp

    if not np.ptp(difference):  # all seeds agree exactly
        return float(difference[0] == 0)
    return float(ttest_1samp(difference, 0).pvalue)
