"""Methods that learn a classifier on the features: their starts, their own steps, what they select."""

import dataclasses
import itertools
import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from cocoop import Backbone
from cocoop.errors import CocoopError, UsageError
from cocoop.methods import METHODS, build, cross_modal
from cocoop.methods._hooks import Bank
from cocoop.methods._settings import resolve
from cocoop.methods.linear_probe import logistic_regression
from cocoop.training.classifier import Classifier
from cocoop.training.step import losses
from tests.conftest import make_tower
from tests.methods.banks import bank
from tests.methods.references_heads import LABELS, NAMES, SCALE, TEMPLATE, unit, words
from tests.methods.test_references import images, prepared

BOUND = ["linear-probe", "zs-lp", "clap", "lp-plus-plus", "cross-modal"]
TWO = ("dataset", "a {}.")


@pytest.fixture(scope="module")
def clip() -> Backbone:
    clip = make_tower("clip-gelu-deep")
    clip.logit_scale = SCALE
    return clip


def made(name: str, clip: Backbone, classes: int = 4, **settings: Any) -> Any:
    cfg = dataclasses.replace(resolve(name).config, **settings)
    return build(name, cfg, clip, template=TEMPLATE, n_classes=classes, seed=0)


def fitted(name: str, clip: Backbone, features: Bank | None = None, **settings: Any) -> Any:
    method = made(name, clip, **settings).double()
    method.fit(features or bank(clip, method, NAMES))
    return method


def predicted(method: Any, clip: Backbone, fimg: Tensor) -> Tensor:
    return Classifier(clip, method, NAMES).predict(fimg)


def close(ours: Tensor, theirs: Tensor, rtol: float = 1e-9, atol: float = 1e-9) -> None:
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", BOUND)
def test_rows_of_some_classes(name: str, clip: Backbone) -> None:
    method, _ = prepared(name, clip)
    every = predicted(method, clip, images(clip))
    some = Classifier(clip, method, [NAMES[2], NAMES[0]], trained_names=NAMES).predict(images(clip))
    close(some, every[:, [2, 0]])
    with pytest.raises(UsageError, match="others have none: 'violin'"):
        Classifier(clip, method, ["violin"], trained_names=NAMES)


@pytest.mark.parametrize("name", ["zs-lp", "clap"])
def test_prototypes_start_from_the_raw_mean(name: str, clip: Backbone) -> None:
    method = fitted(name, clip, templates=TWO)
    start = (words(clip) + words(clip, "a {}.")) / 2
    close(predicted(method, clip, images(clip)), SCALE * images(clip) @ unit(start).T)


def test_cross_modal_starts_from_the_zero_shot_weights(clip: Backbone) -> None:
    method = fitted("cross-modal", clip, templates=TWO, updates=0)
    zero = build(
        "zeroshot",
        resolve("zeroshot", None, {"templates": TWO}).config,
        clip,
        template=TEMPLATE,
        n_classes=4,
        seed=0,
    )
    close(predicted(method, clip, images(clip)), predicted(zero, clip, images(clip)))


def test_an_adapter_that_adds_nothing_is_zero_shot(clip: Backbone) -> None:
    method, _ = prepared("clip-adapter", clip, ratio=0.0)
    close(predicted(method, clip, images(clip)), SCALE * images(clip) @ unit(words(clip)).T)


@pytest.mark.parametrize("name", [*BOUND, "clip-adapter"])
def test_who_reads_the_length_of_a_feature(name: str, clip: Backbone) -> None:
    """CLIP-Adapter is no such method: without biases its network grows as its input does."""
    method, _ = prepared(name, clip)
    short, long = (predicted(method, clip, length * images(clip)) for length in (1, 3))
    assert torch.allclose(short, long) == (name != "linear-probe")


def test_clap_keeps_its_prototypes_the_more_the_stronger_it_is(clip: Backbone) -> None:
    """With a large strength S they end up by -c / (2 S λ) times the gradient away from where they start."""
    moved = []
    for strength in (1e5, 2e5):
        method = fitted("clap", clip, strength=strength)
        method.multipliers.fill_(0.5)
        classifier, start = Classifier(clip, method, NAMES), words(clip)
        free = F.cross_entropy(SCALE * images(clip) @ unit(first := start.clone().requires_grad_()).T, LABELS)
        (pull,) = torch.autograd.grad(free, first)
        optimizer = torch.optim.SGD(method.parameters(), lr=2 / strength)
        for _ in range(60):
            optimizer.zero_grad()
            sum(losses(classifier, images(clip), LABELS).values()).backward()
            optimizer.step()
        moved.append(method.probe.prototypes.detach() - start)
        close(moved[-1], -len(NAMES) / strength * pull, rtol=0.05, atol=0.01 * float(moved[-1].abs().max()))
    close(moved[0], 2 * moved[1], rtol=0.05, atol=0.01 * float(moved[0].abs().max()))


def descended(clip: Backbone, features: Bank, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """LP++ by hand: weights, biases and factors at its start and after every step."""
    zimg = unit(features.fimg.flatten(0, 1))
    labels = features.labels.repeat(len(features.fimg))
    similarity = zimg @ unit(features.text["class"][0]).T
    n, target = len(zimg), F.one_hot(labels).double()
    weight = torch.stack([zimg[labels == name].sum(0) for name in range(len(NAMES))])
    bias = made("lp-plus-plus", clip).linear.bias.detach().double()
    means = torch.stack([similarity[labels == name, name].mean() for name in range(len(NAMES))])
    alpha = torch.full_like(means, 250 * float(means.mean()))
    rate = 4 * n / torch.linalg.matrix_norm(zimg, 2) ** 2
    alpha_rate = n / (4 * (similarity**2).sum(0).max())
    pushed, added, total = torch.zeros_like(weight), torch.zeros_like(bias), torch.zeros_like(alpha)
    yield weight, bias, alpha
    for step in range(1, steps + 1):
        error = ((zimg @ weight.T + bias + alpha * similarity).softmax(1) - target) / n
        pushed, added = 0.9 * pushed + error.T @ zimg, 0.9 * added + error.sum(0)
        total = total + (error * similarity).sum(0)
        weight, bias = weight - rate * pushed, bias - rate * added
        if step % 10 == 0:
            alpha = alpha - alpha_rate * total
        yield weight, bias, alpha


def lp_plus_plus_bank(clip: Backbone, validation: int = 5) -> Bank:
    return bank(clip, made("lp-plus-plus", clip), NAMES, views=1, validation=validation)


@pytest.mark.parametrize("steps", [0, 1, 25])
def test_lp_plus_plus_is_its_descent(steps: int, clip: Backbone) -> None:
    features = lp_plus_plus_bank(clip, validation=0)
    method = fitted("lp-plus-plus", clip, features, descents=steps)
    *_, (weight, bias, alpha) = descended(clip, features, steps)
    close(method.linear.weight, weight)
    close(method.linear.bias, bias)
    close(method.alpha, alpha)
    assert method.finish(features) == {"step": steps}
    assert all(value.grad is None for value in method.parameters())


def test_lp_plus_plus_keeps_the_last_of_its_best_steps(clip: Backbone) -> None:
    features = lp_plus_plus_bank(clip, validation=9)
    text, zval = unit(features.text["class"][0]), unit(features.fval)
    trace = list(descended(clip, features, 30))[1:]
    right = [
        int(((zval @ weight.T + bias + alpha * (zval @ text.T)).argmax(1) == features.val_labels).sum())
        for weight, bias, alpha in trace
    ]
    best = max(step for step, count in enumerate(right, 1) if count == max(right))
    assert 1 < best < 30  # else this shows nothing
    assert right.index(max(right)) + 1 < best
    method = fitted("lp-plus-plus", clip, features, descents=30)
    assert method.finish(features) == {"step": best}
    close(method.alpha, trace[best - 1][2])
    close(method.linear.weight, trace[best - 1][0])


def by_torch(features: Bank, rate: float, decay: float, size: int, steps: int) -> list[Tensor]:
    """Heads of cross-modal adaptation after every step, by torch's own gradient and optimiser."""
    templates, classes, _ = features.text["samples"].shape
    sets = [
        (features.fimg.flatten(0, 1), features.labels.repeat(len(features.fimg))),
        (features.text["samples"].flatten(0, 1), torch.arange(classes).repeat(templates)),
    ]
    start = F.normalize(features.text["samples"], dim=-1).mean(0)
    head = unit(start).clone().requires_grad_()
    optimizer = torch.optim.AdamW([head], lr=rate, weight_decay=decay)
    generator = torch.Generator().manual_seed(features.seed)
    queues: list[list[int]] = [[], []]
    trace = []
    for step in range(steps):
        chosen = []
        for queue, (rows, labels) in zip(queues, sets, strict=True):
            if len(queue) < size // 2:
                queue[:] = torch.randperm(len(rows), generator=generator).tolist()
            batch = [queue.pop(0) for _ in range(size // 2)]
            chosen.append((rows[batch], labels[batch]))
        logits = torch.cat([SCALE * unit(rows) @ head.T for rows, _ in chosen])
        optimizer.param_groups[0]["lr"] = (
            1e-5
            if step == 0
            else rate * step / 50
            if step < 50
            else rate * (1 + math.cos(math.pi * (step - 50) / steps)) / 2
        )
        optimizer.zero_grad()
        F.cross_entropy(logits, torch.cat([labels for _, labels in chosen])).backward()
        optimizer.step()
        trace.append(head.detach().clone())
    return trace


GRID: dict[str, Any] = {"rates": (1e-2, 1e-3), "decays": (0.0, 0.1), "batches": (2, 4), "templates": TWO}


def test_cross_modal_is_torchs_adamw(clip: Backbone) -> None:
    features = bank(clip, made("cross-modal", clip, templates=TWO), NAMES, validation=0)
    settings = list(itertools.product(GRID["rates"], GRID["decays"]))
    for size in GRID["batches"]:
        points = cross_modal.train(features, settings, size, 70)
        for (rate, decay), point in zip(settings, points, strict=True):
            close(point.head, by_torch(features, rate, decay, size, 70)[-1])


def test_cross_modal_selects_the_first_of_the_best(
    clip: Backbone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cross_modal, "EVERY", 10)
    features = bank(clip, made("cross-modal", clip, templates=TWO), NAMES, validation=40)
    method = fitted("cross-modal", clip, features, updates=70, **GRID)
    best: tuple[int, dict[str, Any], Tensor] | None = None
    counts = set()
    for rate, decay, size in itertools.product(GRID["rates"], GRID["decays"], GRID["batches"]):
        trace = by_torch(features, rate, decay, size, 70)
        for step in range(0, 70, 10):
            right = int(((unit(features.fval) @ trace[step].T).argmax(1) == features.val_labels).sum())
            counts.add(right)
            if best is None or right > best[0]:
                best = right, {"rate": rate, "decay": decay, "batch": size, "step": step + 1}, trace[step]
    assert best is not None
    assert len(counts) > 2  # else this shows nothing
    assert method.finish(features) == best[1]
    assert best[1]["step"] > 1
    close(method.head, best[2])


@pytest.mark.parametrize(
    ("batches", "templates", "left"),
    [
        ((4, 8, 32, 6), 1, [4, 6]),  # of four texts and ten images
        ((8, 18, 20), 6, [8, 18]),  # of 24 texts
        ((32, 8), 1, [8]),  # none fits, and the smallest is taken
    ],
)
def test_batches_not_smaller_than_the_sets_are_left_out(
    batches: tuple[int, ...],
    templates: int,
    left: list[int],
    clip: Backbone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    def train(bank: Bank, settings: Any, size: int, updates: int) -> list[cross_modal.Point]:
        sizes.append(size)
        return really(bank, settings, size, updates)

    really = cross_modal.train
    monkeypatch.setattr(cross_modal, "train", train)
    texts = tuple(f"{{}} {number}" for number in range(templates))
    method = fitted("cross-modal", clip, updates=3, batches=batches, templates=texts)
    assert sizes == left
    assert method.head.isfinite().all()


def test_settings_are_compared_in_the_released_order(clip: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    best = [(0.01, 0.0, 4), (0.01, 0.1, 2)]

    def train(bank: Bank, settings: Any, size: int, updates: int) -> list[cross_modal.Point]:
        return [cross_modal.Point((*each, size) in best, 1, torch.zeros(4, 16)) for each in settings]

    monkeypatch.setattr(cross_modal, "train", train)
    features = bank(clip, made("cross-modal", clip, templates=TWO), NAMES)
    method = fitted("cross-modal", clip, features, **GRID)
    assert method.finish(features) == {"rate": 0.01, "decay": 0.0, "batch": 4, "step": 1}


def test_of_equal_steps_cross_modal_keeps_the_first(clip: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_modal, "EVERY", 1)
    features = bank(clip, made("cross-modal", clip), NAMES, validation=1)
    (point,) = cross_modal.train(features, [(1e-9, 0.0)], 2, 9)  # too slow to change any prediction
    assert point.step == 1


def test_without_validation_cross_modal_takes_the_first_values(clip: Backbone) -> None:
    features = bank(clip, made("cross-modal", clip, templates=TWO), NAMES, validation=0)
    method = fitted("cross-modal", clip, features, updates=20, **GRID)
    assert method.finish(features) == {"rate": 1e-2, "decay": 0.0, "batch": 2, "step": 20}
    close(method.head, by_torch(features, 1e-2, 0.0, 2, 20)[-1])


def test_cross_modal_is_a_function_of_the_seed(clip: Backbone) -> None:
    features = bank(clip, made("cross-modal", clip), NAMES)
    first, second, other = (
        fitted("cross-modal", clip, dataclasses.replace(features, seed=seed), updates=5).head
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_at_its_minimum(classes: int) -> None:
    """By the gradient of the loss, in which the penalty is on the difference where there are two classes."""
    generator = torch.Generator().manual_seed(0)
    fimg = torch.randn(30, 5, generator=generator).double()
    labels = torch.arange(30) % classes
    weight, bias = (each.requires_grad_() for each in logistic_regression(fimg, labels, 0.7, 1000))
    assert (weight.shape, bias.shape) == ((classes, 5), (classes,))
    penalty = (weight[1] - weight[0]).pow(2).sum() if classes == 2 else weight.pow(2).sum()
    loss = 0.7 * F.cross_entropy(fimg @ weight.T + bias, labels, reduction="sum") + penalty / 2
    for slope in torch.autograd.grad(loss, [weight, bias]):
        close(slope, torch.zeros_like(slope), atol=5e-3)


def test_the_linear_probe_searches_as_released(clip: Backbone) -> None:
    features = bank(clip, made("linear-probe", clip), NAMES, views=1, validation=60)
    x, y = features.fimg[0].numpy(), features.labels.numpy()
    xval, yval = features.fval.numpy(), features.val_labels.numpy()

    def accuracy(c: float) -> float:
        return float(LogisticRegression(C=c, max_iter=1000).fit(x, y).score(xval, yval))

    powers = [6, 4, 2, 0, -2, -4, -6]
    scores = [accuracy(10.0**power) for power in powers]
    assert len(set(scores)) > 2  # else this shows nothing
    peak = powers[scores.index(max(scores))]
    left, right = peak - 1.0, peak + 1.0
    for _ in range(8):
        if accuracy(10**left) < accuracy(10**right):
            final, left, right = right, (left + right) / 2, right
        else:
            final, left, right = left, left, (left + right) / 2
    method = fitted("linear-probe", clip, features)
    assert method.finish(features) == {"c": pytest.approx(10**final)}
    model = LogisticRegression(C=10**final, max_iter=1000).fit(x, y)
    close(method.weight, torch.from_numpy(model.coef_))
    fimg = 3 * images(clip)
    close(predicted(method, clip, fimg), torch.from_numpy(model.decision_function(fimg.numpy())))


def test_without_validation_the_linear_probe_takes_its_own_c(clip: Backbone) -> None:
    features = bank(clip, made("linear-probe", clip), NAMES, validation=0)
    method = fitted("linear-probe", clip, features)
    assert method.finish(features) == {"c": pytest.approx(0.316)}
    weight, _ = logistic_regression(features.fimg.flatten(0, 1), features.labels.repeat(2), 0.316, 1000)
    close(method.weight, weight, rtol=1e-4, atol=1e-6)


def test_a_linear_probe_of_single_images_warns_of_nothing() -> None:
    fimg = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    weight, bias = logistic_regression(fimg, torch.arange(30), 1e6, 2)  # not at its minimum by far
    assert (weight.shape, bias.shape, weight.dtype) == ((30, 5), (30,), torch.float32)


def test_a_linear_probe_needs_images_of_every_class(
    clip: Backbone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = bank(clip, made("linear-probe", clip), NAMES)
    with pytest.raises(CocoopError, match="images of each"):
        fitted("linear-probe", clip, dataclasses.replace(features, labels=features.labels.clamp(max=2)))
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(CocoopError, match="pip install scikit-learn"):
        fitted("linear-probe", clip, features)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("linear-probe", {"grid": ()}),
        ("linear-probe", {"grid": (0.0,)}),
        ("linear-probe", {"c": math.inf}),
        ("linear-probe", {"rounds": -1}),
        ("lp-plus-plus", {"descents": -1}),
        ("lp-plus-plus", {"alpha_every": 0}),
        ("cross-modal", {"rates": ()}),
        ("cross-modal", {"decays": ()}),
        ("cross-modal", {"batches": ()}),
        ("cross-modal", {"batches": (1,)}),
        ("cross-modal", {"rates": (0.0,)}),
        ("cross-modal", {"updates": -1}),
        ("clip-adapter", {"ratio": 1.1}),
        ("clip-adapter", {"reduction": 0}),
        ("clip-adapter", {"reduction": 17}),
        ("clap", {"strength": -1.0}),
        ("zs-lp", {"templates": ()}),
    ],
)
def test_impossible_settings(name: str, setting: dict[str, Any], clip: Backbone) -> None:
    with pytest.raises(UsageError):
        made(name, clip, **setting)


def test_released_values_of_heads() -> None:
    for name in ("zs-lp", "clap"):
        recipe = METHODS.get(name).presets[f"{name}-released"].recipe
        assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.1, 0.9, 0.0)
        assert (recipe.epochs, recipe.batch_size, recipe.views, recipe.from_views) == (300, 256, 20, True)
        assert (recipe.schedule, recipe.warmup_epochs, recipe.crop) == ("epoch", 1, 0.08)
        assert resolve(name).on("imagenet").config.templates == ("select7", "dataset")
    assert resolve("clap").config.strength == 1
    adapter = resolve("clip-adapter")
    assert adapter.recipe is not None
    assert (adapter.recipe.optimizer, adapter.recipe.lr, adapter.recipe.weight_decay) == ("sgd", 0.002, 5e-4)
    assert (adapter.recipe.epochs, adapter.recipe.batch_size) == (200, 32)
    assert (adapter.config.ratio, adapter.config.reduction) == (0.2, 4)
    probe, lp_plus_plus, cross = (resolve(name) for name in ("linear-probe", "lp-plus-plus", "cross-modal"))
    assert probe.config.grid == tuple(10.0**power for power in (6, 4, 2, 0, -2, -4, -6))
    assert (probe.config.rounds, probe.config.max_iter) == (8, 1000)
    assert (lp_plus_plus.config.descents, lp_plus_plus.config.alpha_every) == (300, 10)
    assert lp_plus_plus.config.alpha_start == 250
    assert cross.config == cross_modal.Config(updates=12800, rates=(1e-3, 1e-4), batches=(8, 32))
    assert cross.config.decays == (0.0, 0.01, 1e-4)
    views = [
        (each.recipe.views, each.recipe.augmentation, each.recipe.crop)
        for each in (probe, lp_plus_plus, cross)
    ]
    assert views == [(1, "none", 0.08), (1, "crop", 0.5), (2, "mirror", 0.08)]
    for each in (probe, lp_plus_plus, cross):
        assert each.config.selects_on == each.facts.selects_on == "few-shot validation"
