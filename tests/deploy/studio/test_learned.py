"""How good a model is: the interval, and labels that change after the training."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import binomtest

from cocoop.deploy.studio.learned import Learned, Score, wilson
from cocoop.deploy.studio.names import Name


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 9), (130, 300)])
def test_the_interval_is_wilsons(correct: int, total: int) -> None:
    expected = binomtest(correct, total).proportion_ci(0.95, "wilson")
    assert wilson(correct, total) == pytest.approx((expected.low, expected.high), abs=1e-12)
    score = Score(correct, total)
    assert score.interval == list(wilson(correct, total))
    assert score.interval[0] <= cast(float, score.accuracy) <= score.interval[1]


def test_of_no_images_there_is_neither_share_nor_interval() -> None:
    assert (Score(0, 0).accuracy, Score(0, 0).interval) == (None, None)


def test_truth_follows_the_labels_of_now() -> None:
    none = np.zeros(4, int)
    model = cast(Any, SimpleNamespace())
    learned = Learned(model, (Name("a"), Name("b")), none, np.array([4, 1, 0, 2]), none, none)
    labels = np.array([2, 0, -1, 1, 1])  # of the images 0 to 4, among the names of now
    assert learned.truth(["b", "a", "new"], labels).tolist() == [0, 1, -1, -1]
    assert learned.truth([], np.full(5, -1)).tolist() == [-1] * 4
