"""Several phrases a class: the average is that of a plain loop, and of one phrase it is the phrase."""

import pytest
import torch

from cocoop import UsageError
from cocoop.text.phrases import Phrases


def test_the_average_by_a_plain_loop() -> None:
    groups = {"cat": ["tabby cat", "Katze"], "dog": ["hound"], "cow": []}
    with pytest.raises(UsageError, match="'cow' have no phrase"):
        Phrases(list(groups), groups)
    phrases = Phrases(["cat", "dog", "cow"], {"cat": groups["cat"], "dog": groups["dog"]})
    assert phrases.texts == ["tabby cat", "Katze", "hound", "cow"]
    features = torch.randn(2, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = phrases.average(features)
    for sample in range(2):
        one, two, hound, cow = features[sample]
        mean = one / one.norm() + two / two.norm()
        expected = mean / mean.norm() * (one.norm() + two.norm()) / 2
        for row, value in zip(found[sample], (expected, hound, cow), strict=True):
            torch.testing.assert_close(row, value, rtol=1e-12, atol=1e-12)


def test_some_of_the_classes() -> None:
    phrases = Phrases(["cat", "dog", "cow"], {"cat": ["a", "b"], "cow": ["c", "d"]})
    features = torch.randn(1, 5, 4)
    fewer, places = phrases.among([2, 1])
    assert (fewer.texts, places) == (["c", "d", "dog"], [3, 4, 2])
    torch.testing.assert_close(fewer.average(features[:, places]), phrases.average(features)[:, [2, 1]])


def test_contexts_of_a_class_are_those_of_its_phrases() -> None:
    phrases = Phrases(["cat", "dog"], {"cat": ["a", "b"]})
    contexts = torch.randn(1, 2, 3, 4)
    assert torch.equal(phrases.spread(contexts), contexts[:, [0, 0, 1]])
    assert torch.equal(phrases.spread(contexts[:, :1]), contexts[:, :1])
    with pytest.raises(UsageError, match="'a' are of several classes"):
        Phrases(["cat", "dog"], {"cat": ["a", "b"], "dog": ["a"]})
