from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cocoop import Backbone, Classifier, CocoopError, UsageError
from cocoop.methods import build
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import resolve
from cocoop.methods.cocoop import Model as CoCoOp
from cocoop.methods.coop import Model as CoOp
from cocoop.text.reference import ReferenceEncoder
from cocoop.training.linearised import hidden_statistics
from cocoop.training.loop import batches, fit
from cocoop.training.metrics import evaluate
from cocoop.training.samples import Samples
from tests.described import described

NAMES = ["red apple", "green tea", "dog"]


def classifier(cls: type, backbone: Backbone, seed: int = 0) -> Classifier:
    preset = next(iter(cls.presets.values()))
    method = cls(preset.config, backbone, template="a {}.", n_classes=len(NAMES), seed=seed)
    return Classifier(backbone, method, NAMES)


def data(backbone: Backbone, count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return F.normalize(torch.randn(count, backbone.embed_dim, generator=generator), dim=-1), torch.arange(
        count
    ) % 3


@pytest.mark.parametrize("cls", [CoOp, CoCoOp])
def test_training_learns(cls: type, toy: Backbone) -> None:
    zimg, labels = data(toy)
    trace = fit(
        classifier(cls, toy),
        Samples(lambda epoch: zimg, labels),
        Recipe(epochs=30, batch_size=4, lr=0.02),
        seed=0,
    )
    assert sum(trace.loss[-3:]) < 0.8 * sum(trace.loss[:3])
    assert len(trace.lr) == 30
    assert len(trace.loss) == 30 * 3


def test_the_same_seed_gives_the_same_bits(toy: Backbone) -> None:
    zimg, labels = data(toy)

    def weights(seed: int) -> torch.Tensor:
        model = classifier(CoCoOp, toy, seed=7)
        fit(model, Samples(lambda epoch: zimg, labels), Recipe(epochs=2), seed=seed)
        return torch.cat([parameter.detach().flatten() for parameter in model.method.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_the_loss_curve_is_that_of_the_reference_path(toy: Backbone) -> None:
    """Train CoCoOp by hand through the padded, image-by-image computation: the same losses."""
    zimg, labels = data(toy)
    recipe = Recipe(epochs=2, batch_size=2)
    ours = fit(classifier(CoCoOp, toy), Samples(lambda epoch: zimg, labels), recipe, seed=0).loss
    method = classifier(CoCoOp, toy).method
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    theirs = []
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = recipe.lr_at(epoch)
        for batch in batches(len(labels), 2, 0, epoch):
            text = ReferenceEncoder(toy, method.prompts[0], NAMES)(method(zimg[batch]))
            logits = torch.stack([toy.logit_scale * z @ t.T for z, t in zip(zimg[batch], text, strict=True)])
            loss = F.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            theirs.append(loss.item())
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_views_are_asked_for_epoch_by_epoch(toy: Backbone) -> None:
    zimg, labels = data(toy)
    asked: list[int] = []

    def views(epoch: int) -> torch.Tensor:
        asked.append(epoch)
        return zimg

    fit(classifier(CoOp, toy), Samples(views, labels), Recipe(epochs=3, batch_size=12), seed=0)
    assert asked == [0, 1, 2]


def test_divergence_names_step_and_class(toy: Backbone) -> None:
    zimg, labels = data(toy, 3)
    broken = zimg.clone()
    broken[1] = float("nan")
    with pytest.raises(CocoopError, match=r"loss is nan at epoch 1, step \d .*green tea"):
        fit(classifier(CoCoOp, toy), Samples(lambda epoch: broken, labels), Recipe(epochs=1), seed=0)


def test_no_images_are_an_error(toy: Backbone) -> None:
    with pytest.raises(CocoopError, match="no training images"):
        fit(
            classifier(CoOp, toy),
            Samples(lambda epoch: torch.empty(0, 16), torch.empty(0).long()),
            Recipe(),
            seed=0,
        )
    with pytest.raises(CocoopError, match="no test images"):
        list(evaluate(torch.empty(0, 3), torch.empty(0).long()))


@pytest.mark.parametrize(
    ("count", "size", "sizes"), [(80, 32, [32, 32]), (20, 32, [20]), (64, 32, [32, 32]), (3, 1, [1] * 3)]
)
def test_a_short_last_batch_is_dropped_unless_it_is_alone(count: int, size: int, sizes: list[int]) -> None:
    parts = list(batches(count, size, seed=0, epoch=0))
    assert [len(part) for part in parts] == sizes
    assert len(set(torch.cat(parts).tolist())) == sum(sizes)


def test_every_epoch_has_its_own_order() -> None:
    orders = [torch.cat(list(batches(50, 50, seed, epoch))).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_metrics() -> None:
    logits = torch.tensor([[5.0, 0, 0], [5.0, 0, 0], [0, 5.0, 0], [0, 0, 5.0]])
    values = dict(evaluate(logits, torch.tensor([0, 1, 1, 2])))
    assert (values["correct"], values["total"], values["accuracy"]) == (3, 4, 0.75)
    assert values["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    confidence = torch.softmax(logits, 1)[0, 0].item()
    assert values["calibration_error"] == pytest.approx(abs(confidence - 0.75), abs=1e-4)


def test_hidden_vectors_are_those_of_the_test_views_where_there_are_some(toy: Backbone) -> None:
    views, labels = data(toy)
    plain = views.roll(1, 1)
    for given, seen in ((lambda: plain, plain), (None, views)):
        fitted = classifier(CoCoOp, toy)
        log = fit(fitted, Samples(lambda epoch: views, labels, plain=given), Recipe(epochs=1), seed=0)
        assert log.hidden == hidden_statistics(fitted.method, seen)
    assert "mean" not in fit(classifier(CoOp, toy), Samples(lambda epoch: views, labels), Recipe(), 0).hidden


def test_steps_see_several_views_of_every_image(toy: Backbone) -> None:
    """They are those of as many epochs, one after the other; each image's stand side by side."""
    labels, asked, seen = torch.tensor([0, 1, 2, 0]), [], []

    def views(epoch: int) -> torch.Tensor:
        asked.append(epoch)
        return torch.arange(4.0)[:, None, None, None] / 10 + torch.full((4, 3, 32, 32), epoch)

    config = described(resolve("coprompt").config, NAMES)
    method: Any = build("coprompt", config, toy, template="a {}.", n_classes=3, seed=0)
    image = method.image
    method.image = lambda state, tower: (seen.append(state[:, :, 0, 0, 0]), image(state, tower))[1]
    fit(Classifier(toy, method, NAMES), Samples(views, labels), Recipe(epochs=2, batch_size=4), seed=0)
    assert asked == [0, 1, 2, 3]
    for epoch, state in enumerate(seen):
        torch.testing.assert_close(state[:, 1] - state[:, 0], torch.ones(4))
        torch.testing.assert_close(state[:, 0].sort().values, torch.arange(4.0) / 10 + 2 * epoch)
    recipe = Recipe(epochs=1, from_views=True)
    with pytest.raises(UsageError, match="CoPrompt sees 2 new views of every image in a step"):
        fit(Classifier(toy, method, NAMES), Samples(views, labels), recipe, seed=0)
