"""Text features computed in pieces of images and classes, recomputed in the backward pass where asked for."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cocoop.text.memory import Chunking, release_free_memory

Piece = Callable[[Tensor], Tensor]


def in_pieces(
    contexts: Float[Tensor, "b classes m w"],
    layout: Chunking,
    count: int,
    piece: Callable[[int, int], Piece],
    draws: bool = False,
) -> Float[Tensor, "b c d"]:
    """Return the text features of all prompts.

    Args:
        contexts: the learned vectors of every image.
        layout: how the work is cut.
        count: of prompts.
        piece: gives the function of contexts for so many prompts from one on.
        draws: whether it may draw at random, so that a recomputation has to draw the same.
    """
    parts = []
    for images in contexts.split(layout.images):
        columns = []
        for start in range(0, count, layout.classes):
            run = piece(start, layout.classes)
            if layout.recompute:
                run = compact(getattr(run, "eager", run), layout.limit)
                columns.append(checkpoint(run, images, use_reentrant=False, preserve_rng_state=draws))
            else:
                columns.append(run(images))
        parts.append(torch.cat(columns, dim=1))
    return torch.cat(parts)


def compact(piece: Piece, limit: int) -> Piece:
    """Give freed memory back before the piece is computed where the process holds over `limit` bytes."""

    def run(images: Tensor) -> Tensor:
        release_free_memory(limit)
        return piece(images)

    return run
