"""How logits are computed in a test, in words; apart from `screening`, as tables need no torch."""

from typing import Literal, get_args

from cocoop.errors import unknown

TestingMode = Literal["exact", "screened", "linear"]


def in_words(found: dict[str, float]) -> str:
    """Return a sentence on what `cocoop.training.screening.approximation` has found."""
    exact = f"exact for the likeliest {found['exact']:.0%} of the classes and " if "exact" in found else ""
    return (
        f"Logits are {exact}linear in the hidden vector{' for the others' if exact else ''}: an "
        f"approximation, off by {found['error']:.2g} at most on {found['images']:.0f} images."
    )


def checked_mode(mode: str) -> TestingMode:
    """Return a mode. Raises UsageError where there is none of that name."""
    for known in get_args(TestingMode):
        if mode == known:
            return known
    raise unknown("testing mode", mode, get_args(TestingMode))
