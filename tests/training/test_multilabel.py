"""Several classes an image: offsets, loss and steps against plain references, and who refuses."""

from functools import partial

import pytest
import torch
from torch import Tensor

from cocoop import Backbone, UsageError
from cocoop.estimator.train import check_multilabel, several_choice
from cocoop.methods import METHODS, build, ordered
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import resolve
from cocoop.training.classifier import Classifier
from cocoop.training.loop import fit
from cocoop.training.multilabel import loss, offsets_of, refusal, targets
from cocoop.training.samples import Samples

NAMES = ["cat", "dog", "owl"]
TRUTH = targets([("cat", "dog"), ("owl",), (), ("dog",), ("cat",), ("owl", "dog")], NAMES)


def test_targets() -> None:
    assert targets([("dog",), (), ("owl", "cat")], NAMES).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]


def reference(logits: Tensor, truth: Tensor, offsets: Tensor) -> Tensor:
    """The loss, written out: - log sigmoid of the classes an image has, - log (1 - sigmoid) of the others."""
    total = torch.zeros((), dtype=logits.dtype)
    for row, has in zip(logits, truth, strict=True):
        for z, offset, one in zip(row, offsets, has, strict=True):
            away = -(z + offset) if one else z + offset
            total = total - torch.log(1 / (1 + torch.exp(away)))
    return total / len(logits)


def test_the_loss_is_the_reference() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=rng, dtype=torch.float64).requires_grad_()
    offsets = torch.randn(3, generator=rng, dtype=torch.float64)
    for each in (loss(logits + offsets, TRUTH.double()), reference(logits, TRUTH, offsets)):
        (gradient,) = torch.autograd.grad(each, logits)
        torch.testing.assert_close(gradient, (torch.sigmoid(logits + offsets) - TRUTH).detach() / 6)
        torch.testing.assert_close(each, reference(logits, TRUTH, offsets))


def test_offsets_make_the_mean_score_the_share() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=rng) * torch.tensor([0.1, 3.0, 30.0, 1.0]) + 25
    truth = (torch.rand(50, 4, generator=rng) < torch.tensor([0.02, 0.3, 0.5, 0.9])).float()
    truth[:, 0] = 0  # a class of no image has an offset too
    scores = torch.sigmoid(logits.double() + offsets_of(logits, truth).double())
    torch.testing.assert_close(scores.mean(0), (truth.double().sum(0) + 0.5) / 51, rtol=1e-4, atol=1e-5)


def samples(clip: Backbone, offsets: Tensor, truth: Tensor = TRUTH) -> Samples:
    features = torch.randn(6, clip.embed_dim, generator=torch.Generator().manual_seed(3))
    return Samples(lambda epoch: features, truth, offsets=offsets)


@pytest.mark.parametrize("method", ["coop", "cocoop"])
def test_a_step_follows_the_gradient_of_the_reference(toy: Backbone, method: str) -> None:
    config = METHODS.get(method).config_type()
    made = [build(method, config, toy, template="a photo of a {}.", n_classes=3, seed=1) for _ in range(2)]
    views = samples(toy, torch.zeros(3)).views(0)
    offsets = offsets_of(Classifier(toy, made[0], NAMES).predict(views), TRUTH)
    given = samples(toy, offsets)
    recipe = Recipe(epochs=1, batch_size=6, lr=0.1, warmup_epochs=0, weight_decay=0.0, momentum=0.0)
    log = fit(Classifier(toy, made[0], NAMES), given, recipe, seed=1)
    plain = Classifier(toy, made[1], NAMES)
    expected = reference(plain(given.views(0)).double(), TRUTH, offsets.double())
    expected.backward()
    assert log.loss == [pytest.approx(expected.item(), rel=1e-4)]
    for (name, one), other in zip(made[0].named_parameters(), made[1].parameters(), strict=True):
        assert other.grad is not None, name
        torch.testing.assert_close(one.detach(), (other - 0.1 * other.grad).detach(), rtol=1e-3, atol=1e-5)


def test_images_of_no_class_count(toy: Backbone) -> None:
    """Their classes are all to be unlikely, which softmax cross-entropy cannot say."""
    config = METHODS.get("coop").config_type()
    run = partial(build, "coop", config, toy, template="a photo of a {}.", n_classes=3, seed=1)
    recipe = Recipe(epochs=8, batch_size=6, lr=0.05, warmup_epochs=0)
    method = run()
    given = samples(toy, torch.full((3,), -5.0), torch.zeros(6, 3))
    before = Classifier(toy, method, NAMES).predict(given.views(0)).mean()
    fit(Classifier(toy, method, NAMES), given, recipe, seed=1)
    assert Classifier(toy, method, NAMES).predict(given.views(0)).mean() < before


TAKEN = {
    "zeroshot",
    "coop",
    "clip-adapter",
    "cocoop",
    "deep-language",
    "taskres",
    "atprompt",
    "atprompt-cocoop",
}
REASONS = {
    "kgcoop": "its own loss is of one class",
    "prograd": "its own loss is of one class",
    "autoprompt": "its search compares",
    "tip-adapter": "closed form",
    "gda": "closed form",
    "tda": "the test images before each one",
    "tpt": "views of each test image",
    "transclip": "all test images at once",
}


@pytest.mark.parametrize("method", ordered())
def test_every_method_takes_several_classes_or_says_why_not(method: str) -> None:
    choice = resolve(method, None, {})
    if not refusal(METHODS.get(method), choice.facts, choice.recipe):
        assert method not in REASONS
        check_multilabel(choice)
        return
    assert method not in TAKEN
    with pytest.raises(UsageError, match=f"takes no images of several classes: .*{REASONS.get(method, '')}"):
        check_multilabel(choice)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"keep": "best"}, "selected on validation"), ({"classes_per_step": 2}, "softmax")],
)
def test_settings_of_one_class_an_image_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_multilabel(resolve("coop", None, settings))


def test_crops_give_way_to_mirrors_unless_they_are_asked_for() -> None:
    choice = resolve("coop", None, {})
    assert choice.recipe
    assert choice.recipe.augmentation == "crop"
    changed = several_choice(choice)
    assert changed.recipe
    assert changed.recipe.augmentation == "mirror"
    assert several_choice(choice, asked=True) == choice
    plain = resolve("taskres", None, {"augmentation": "none"})
    assert several_choice(plain) == plain
    assert several_choice(resolve("zeroshot", None, {})).recipe is None
