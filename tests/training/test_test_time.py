"""What methods see of the test images."""

import pytest
import torch

from cocoop import Backbone, Classifier, UsageError
from cocoop.data.views import ImageViews
from cocoop.methods import build
from cocoop.methods._hooks import views_of
from cocoop.methods._settings import resolve
from cocoop.training.test_time import in_turn, order_of

NAMES = ["red apple", "green tea", "dog"]


def classifier(name: str, clip: Backbone) -> Classifier:
    method = build(name, resolve(name).config, clip, template="a {}.", n_classes=3, seed=0)
    method.eval()
    return Classifier(clip, method, NAMES)


def test_views(toy: Backbone) -> None:
    assert views_of(classifier("mta", toy).method) == ImageViews(64)
    assert views_of(classifier("tpt", toy).method) == ImageViews(64, augmix=True)
    zero = classifier("zeroshot", toy)
    assert views_of(zero.method) == ImageViews()
    fimg = torch.randn(4, toy.embed_dim)
    torch.testing.assert_close(zero.predict(fimg[:, None]), zero.predict(fimg))
    with pytest.raises(UsageError, match=r"zero-shot CLIP looks at 1 view\(s\) of every image, not at 2"):
        zero.predict(fimg[:, None].repeat(1, 2, 1))


def test_an_order_is_of_the_seed_and_the_number_of_images(toy: Backbone) -> None:
    method = classifier("tda", toy).method
    order = order_of(method, 50, 1)
    assert order is not None
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist()[:5] == [38, 1, 40, 6, 26]
    assert torch.equal(order, order_of(method, 50, 1))  # type: ignore[arg-type]
    assert not torch.equal(order, order_of(method, 50, 2))  # type: ignore[arg-type]
    assert order_of(classifier("transclip", toy).method, 50, 1) is None
    with pytest.raises(UsageError, match="a seed is a number"):
        order_of(method, 50, -1)


def test_answers_come_back_in_the_order_of_the_images(toy: Backbone) -> None:
    stream, fimg = classifier("tda", toy), torch.randn(20, toy.embed_dim)
    order = order_of(stream.method, 20, 3)
    assert order is not None
    answers = in_turn(stream, fimg, order)
    torch.testing.assert_close(answers[order], stream.predict(fimg[order]))
    assert not torch.allclose(answers, in_turn(stream, fimg, None))
    torch.testing.assert_close(in_turn(stream, fimg, torch.arange(20)), stream.predict(fimg))
