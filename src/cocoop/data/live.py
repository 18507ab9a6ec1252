"""Views that are made when a step asks for them: those of which too many would have to be kept."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

AHEAD = 2  # batches that are made while a step computes


@dataclass(frozen=True, eq=False)
class Live:
    """One view of each of n images, none of which is kept.

    Attributes:
        count: n.
        make: returns the views of the images at some places of the list; called in another thread.
        then: done to them when their step begins.
    """

    count: int
    make: Callable[[Sequence[int]], Tensor]
    then: Callable[[Tensor], Tensor] = lambda views: views

    def __len__(self) -> int:
        """N, as a tensor of them would have it."""
        return self.count


def together(views: Sequence[Tensor | Live]) -> Tensor | Live:
    """Return several views of each image in the second place; where there is but one, in none."""
    first, *others = views
    if not others:
        return first
    if isinstance(first, Tensor):
        return torch.stack([view for view in views if isinstance(view, Tensor)], dim=1)
    makes = [view.make for view in views if isinstance(view, Live)]
    return Live(
        len(first),
        lambda places: torch.stack([make(places) for make in makes], dim=1),
        lambda made: first.then(made.flatten(0, 1)).unflatten(0, made.shape[:2]),
    )


def in_batches(
    views: Tensor | Live, batches: Sequence[Int[Tensor, " b"]]
) -> Iterator[Float[Tensor, "b *n w"]]:
    """Yield the views of each batch, those to come being made meanwhile where they are not kept.

    Raises:
        CocoopError: an image cannot be read.
    """
    if isinstance(views, Tensor):
        yield from (views[batch] for batch in batches)
        return
    waiting: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(1) as pool:  # `make` has threads of its own
        try:
            for batch in batches:
                waiting.append(pool.submit(views.make, batch.tolist()))
                if len(waiting) > AHEAD:
                    yield views.then(waiting.popleft().result())
            while waiting:
                yield views.then(waiting.popleft().result())
        finally:
            for future in waiting:
                future.cancel()
