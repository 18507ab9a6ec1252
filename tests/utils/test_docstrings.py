"""What is read from docstrings."""

import pytest

from cocoop.utils.docstrings import attributes, first_sentence


class Described:
    """A class.

    Attributes:
        short: one line.
        long: two lines: the second
            goes on.

    Examples:
        other: no attribute.
    """


class Bare:
    """A class without any."""


def test_attributes() -> None:
    assert attributes(Described) == {"short": "one line.", "long": "two lines: the second goes on."}
    assert attributes(Bare) == {}


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("", ""),
        ("one line.", "one line"),
        ("no full stop", "no full stop"),
        ("layers, e.g. Q and K, i.e. Two. Nine in the paper.", "layers, e.g. Q and K, i.e. Two"),
        ("weight; 0.5 in Yao et al. Another sentence.", "weight; 0.5 in Yao et al. Another sentence"),
        ("what it is. `x` is another.", "what it is"),
    ],
)
def test_first_sentence(text: str, first: str) -> None:
    assert first_sentence(text) == first
