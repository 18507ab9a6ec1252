"""Learned vectors before the blocks of both towers, which several methods are made of (MaPLe, CVPR 2023)."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.text.prompt import Prompt, context_template, init_context
from cocoop.utils.seeding import checked

STD = 0.02  # of random vectors
TEXT, IMAGE = 1, 2  # towers have random numbers of their own


def text_vectors(
    backbone: Backbone, words: str | None, n_ctx: int, depth: int, seed: int
) -> tuple[Float[Tensor, "j m w"], Prompt]:
    """Return the first value of the vectors before the first blocks of the text tower, and their prompt.

    Args:
        backbone: the frozen CLIP.
        words: what stands before the class name; the embeddings of its first tokens are the vectors before
            the first block, and its other tokens stay. None for random vectors and no such tokens.
        n_ctx: M, the number of vectors before each block.
        depth: J, blocks that have some, all of the tower's at most.
        seed: of the random vectors.

    Raises:
        UsageError: the words have fewer tokens than there are vectors, or a number is below 1.
    """
    check_counts(n_ctx=n_ctx, depth=depth)
    first = init_context(backbone, words, n_ctx, seed)
    if len(first) < n_ctx:
        raise UsageError(
            f"ctx_init {words!r} has {len(first)} tokens, fewer than the {n_ctx} of n_ctx; "
            "give more words, or null for random vectors"
        )
    deeper = drawn(seed, TEXT, min(depth, len(backbone.text.blocks)) - 1, n_ctx, backbone.width)
    vectors = torch.cat([first[None, :n_ctx], deeper.to(first)])
    return vectors, Prompt(context_template(words, n_ctx), n_ctx)


def image_vectors(backbone: Backbone, n_ctx: int, depth: int, seed: int) -> Float[Tensor, "j m w"]:
    """Return the first value of the vectors before the first blocks of the image tower, which are random.

    Args:
        backbone: the frozen CLIP.
        n_ctx: M, the number of vectors before each block.
        depth: J, blocks that have some, all of the tower's at most.
        seed: of the random vectors.

    Raises:
        UsageError: a number is below 1, or the image tower is no vision transformer of CLIP's.
    """
    check_counts(n_ctx=n_ctx, depth=depth)
    tower = backbone.vision
    return drawn(seed, IMAGE, min(depth, len(tower.blocks)), n_ctx, tower.width)


def drawn(seed: int, tower: int, *shape: int) -> Float[Tensor, "*n"]:
    """Return random vectors, those of one tower being others than those of the other."""
    state = int(np.random.SeedSequence((checked(seed), tower)).generate_state(1)[0])
    return STD * torch.randn(*shape, generator=torch.Generator().manual_seed(state))


def check_counts(**counts: int) -> None:
    """Raise UsageError where a setting, given by its name, is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{name} must be at least 1, not {count}")
