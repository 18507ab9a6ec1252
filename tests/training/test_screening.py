"""Linear and screened predictions against exact ones, and when they are refused."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import cocoop
from cocoop import Backbone, UsageError
from cocoop.backbones.cache import FeatureCache
from cocoop.methods import METHODS, build
from cocoop.training import linearised
from cocoop.training.classifier import Classifier
from cocoop.training.linearised import Linearised, hidden_statistics
from cocoop.training.modes import TestingMode, in_words
from cocoop.training.screening import Screened, approximation, predictor, quickest

NAMES = [
    f"{color} {thing}" for color in ("red", "green", "blue") for thing in ("apple", "violin", "teapot", "car")
]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return cocoop.load_backbone("tiny-clip", device="cpu")


def classifier_on(backbone: Backbone, name: str = "cocoop", strength: float = 1.0) -> Classifier:
    """A method whose Meta-Net says something, more of it the greater its strength."""
    method = build(
        name, METHODS.get(name).config_type(), backbone, template="{}", n_classes=len(NAMES), seed=3
    )
    net = next(module for key, module in method.named_modules() if key.endswith("meta_net"))  # type: ignore[attr-defined]
    net.linear2.weight.data.mul_(strength)
    return Classifier(backbone, method, NAMES)


def images(backbone: Backbone, count: int = 40) -> torch.Tensor:
    return torch.randn(count, backbone.embed_dim, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", ["cocoop", "atprompt-cocoop", "dept-cocoop"])
def test_linear_is_close_and_screened_is_exact_where_it_matters(tiny: Backbone, name: str) -> None:
    classifier, fimg = classifier_on(tiny, name), images(tiny)
    exact = classifier.predict(fimg)
    linear = predictor(classifier, "linear", fimg)
    assert isinstance(linear, Linearised)
    errors = (linear.predict(fimg) - exact).abs()
    assert 0 < errors.mean() < 0.05
    screened = predictor(classifier, "screened", fimg)
    assert isinstance(screened, Screened)
    logits = screened.predict(fimg)
    torch.testing.assert_close(logits.argmax(1), exact.argmax(1), rtol=0, atol=0)
    same = (logits - exact).abs() < 1e-4
    assert 5 * len(fimg) <= screened.measured.exact <= same.sum()
    assert screened.measured.images == len(fimg)
    assert screened.measured.error <= errors.max() + 1e-4


def test_large_hidden_vectors_break_the_linear_answer_and_not_the_screened_one(tiny: Backbone) -> None:
    classifier, fimg = classifier_on(tiny, strength=60.0), images(tiny)
    exact = classifier.predict(fimg)
    linear = predictor(classifier, "linear", fimg)
    assert (linear.predict(fimg).argmax(1) != exact.argmax(1)).sum() > 3
    screened = predictor(classifier, "screened", fimg)
    assert isinstance(screened, Screened)
    torch.testing.assert_close(screened.predict(fimg).argmax(1), exact.argmax(1), rtol=0, atol=0)
    assert screened.measured.exact > 1.2 * 5 * len(fimg)  # the error it found made it compute more
    assert approximation(linear, fimg)["error"] > 1


def test_linearised_for_the_training_images_or_those_at_hand(tiny: Backbone) -> None:
    classifier, fimg = classifier_on(tiny), images(tiny)
    known = hidden_statistics(classifier.method, fimg)
    here = predictor(classifier, "linear", fimg)
    given = predictor(classifier, "linear", fimg[:1], known)
    torch.testing.assert_close(here.predict(fimg), given.predict(fimg), rtol=0, atol=1e-5)
    elsewhere = predictor(classifier, "linear", fimg, known | {"mean": [x + 1 for x in known["mean"]]})
    assert (elsewhere.predict(fimg) - here.predict(fimg)).abs().max() > 1e-4


def test_expansions_are_kept_and_belong_to_names_and_prompt(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    expand = linearised.expand
    monkeypatch.setattr(linearised, "expand", lambda *words: calls.append(1) or expand(*words))
    classifier, fimg, cache = classifier_on(tiny), images(tiny), FeatureCache(tmp_path)
    first = predictor(classifier, "linear", fimg, cache=cache).predict(fimg)
    again = predictor(classifier_on(tiny), "linear", fimg, cache=cache).predict(fimg)
    assert len(calls) == 1
    assert torch.equal(first, again)
    other = Classifier(tiny, classifier.method, NAMES[1:])
    assert predictor(other, "linear", fimg, cache=cache).predict(fimg).shape[1] == len(NAMES) - 1
    predictor(classifier_on(tiny, strength=2.0), "linear", fimg, cache=cache)
    assert len(calls) == 3


def test_expansions_are_in_fp32(tiny: Backbone) -> None:
    low = cocoop.load_backbone("tiny-clip", device="cpu", precision="bf16")
    fimg = images(tiny)
    expected = predictor(classifier_on(tiny), "linear", fimg).predict(fimg)
    torch.testing.assert_close(predictor(classifier_on(low), "linear", fimg).predict(fimg), expected)


def test_what_depends_on_no_image_is_exact(tiny: Backbone) -> None:
    method = build("coop", METHODS.get("coop").config_type(), tiny, template="{}", n_classes=4, seed=1)
    classifier = Classifier(tiny, method, NAMES)
    assert predictor(classifier, "linear", images(tiny)) is classifier
    assert approximation(classifier, images(tiny)) == {}
    assert quickest(classifier, 10**6) == "exact"


def test_another_form_and_too_little_memory_are_refused(tiny: Backbone) -> None:
    config = METHODS.get("cocoop-other-image").config_type()
    method = build("cocoop-other-image", config, tiny, template="{}", n_classes=4, seed=1)
    with pytest.raises(UsageError, match="cannot be tested linear: its context vectors are no affine"):
        predictor(Classifier(tiny, method, NAMES), "linear", images(tiny))
    small = Classifier(tiny, classifier_on(tiny).method, NAMES, memory_budget=10_000)
    with pytest.raises(UsageError, match=r"the expansion of 12 names takes 0 MB, more than"):
        predictor(small, "linear", images(tiny))


def test_the_quickest_way_depends_on_how_much_there_is_to_do(tiny: Backbone) -> None:
    classifier = classifier_on(tiny)
    assert quickest(classifier, 10) == "exact"
    assert quickest(classifier, 10_000) == "screened"
    assert quickest(Classifier(tiny, classifier.method, NAMES[:8]), 10_000) == "exact"


def test_no_image_at_all(tiny: Backbone) -> None:
    known = hidden_statistics(classifier_on(tiny).method, images(tiny))
    for mode in ("linear", "screened"):
        answers = predictor(classifier_on(tiny), mode, images(tiny, 0), known)  # type: ignore[arg-type]
        assert answers.predict(images(tiny, 0)).shape == (0, len(NAMES))
        assert isinstance(predictor(classifier_on(tiny), mode, images(tiny, 0)), Classifier)  # type: ignore[arg-type]


def test_in_words() -> None:
    assert in_words({"error": 0.1234, "images": 10}) == (
        "Logits are linear in the hidden vector: an approximation, off by 0.12 at most on 10 images."
    )
    assert "exact for the likeliest 8% of the classes and linear" in in_words(
        {"error": 0.1, "images": 9, "exact": 0.08}
    )


def test_features_of_any_length(tiny: Backbone) -> None:
    fimg = images(tiny)
    linear = predictor(classifier_on(tiny), "linear", fimg)
    torch.testing.assert_close(linear.predict(3 * fimg), linear.predict(F.normalize(fimg, dim=-1)))


@pytest.mark.parametrize("mode", ["linear", "screened"])
@pytest.mark.parametrize("name", ["cocoop", "dept-cocoop"])
def test_cosines_cost_no_text_pass_of_their_own(
    tiny: Backbone, name: str, mode: TestingMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, fimg = classifier_on(tiny, name), images(tiny)
    exact, cosines = classifier.similarities(fimg)
    answers = predictor(classifier, mode, fimg)
    monkeypatch.setattr(Classifier, "encode", lambda *_: pytest.fail("all classes were encoded"))
    logits, rough = answers.similarities(fimg)
    torch.testing.assert_close(logits, answers.predict(fimg), rtol=0, atol=0)
    torch.testing.assert_close(logits, exact, rtol=0, atol=0.2)
    torch.testing.assert_close(rough, cosines, rtol=0, atol=0.2 / tiny.logit_scale)
