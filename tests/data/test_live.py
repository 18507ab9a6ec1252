"""Views that are made when a step asks for them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cocoop.data.live import Live, in_batches, together


def lively(value: float) -> Live:
    def make(places: Sequence[int]) -> Tensor:
        return torch.tensor([[float(place), value] for place in places])

    return Live(3, make, lambda views: 10 * views)


def test_several_views_stand_in_the_second_place() -> None:
    batch = [torch.tensor([2, 0])]
    (pair,) = in_batches(together([lively(0.1), lively(0.2)]), batch)
    expected = torch.tensor([[[20.0, 1.0], [20.0, 2.0]], [[0.0, 1.0], [0.0, 2.0]]])
    torch.testing.assert_close(pair, expected)
    kept = [torch.stack(list(in_batches(view, [torch.arange(3)])))[0] for view in (lively(0.1), lively(0.2))]
    (again,) = in_batches(together(kept), batch)
    torch.testing.assert_close(again, expected)


def test_a_single_view_has_no_place() -> None:
    one = lively(0.1)
    assert together([one]) is one
    assert len(together([one, one])) == 3
