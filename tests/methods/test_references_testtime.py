"""Methods that see test images are their formulas, image by image in plain loops, in fp64."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocoop import Backbone
from cocoop.data.views import ImageViews
from cocoop.errors import UsageError
from cocoop.methods import METHODS, build
from cocoop.methods import transclip as transduction
from cocoop.methods._confidence import entropy_of_mean, picked, surest
from cocoop.methods._hooks import Bank, Unlabelled, WithAdapt, WithAssign, WithObserve
from cocoop.methods._parts import load_learned
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import resolve
from cocoop.methods.tda import Cache
from cocoop.methods.tpt import view_logits
from cocoop.text.prompt import Prompt
from cocoop.text.reference import ReferenceEncoder
from cocoop.training.classifier import Classifier
from cocoop.training.loop import fit
from cocoop.training.samples import Samples
from tests.conftest import make_tower
from tests.methods.banks import LABELS, NAMES, SCALE, TEMPLATE

MILD = 12.0  # a temperature at which views and classes are in doubt
EPS, DECAY = 1e-8, 0.01  # of AdamW

SEES = [name for name in METHODS.names() if METHODS.get(name).facts.sees_test_images]
HOOKS = {"views": WithAdapt, "stream": WithObserve, "whole set": WithAssign}


@pytest.fixture(scope="module")
def mild() -> Backbone:
    clip = make_tower("clip-gelu-deep")
    clip.logit_scale = MILD
    return clip


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def seen(clip: Backbone, count: int, views: int, seed: int = 1) -> Tensor:
    """Raw views of images that are somewhat like one of the classes."""
    drawn = torch.randn(count, views + 1, clip.embed_dim, generator=torch.Generator().manual_seed(seed))
    text = hand_written(clip, TEMPLATE).float()
    centres = text[torch.arange(count) % len(text)][:, None] / 2
    return (3 * (centres + 0.05 * drawn[:, :1] + 0.04 * drawn[:, 1:])).double()


def made(name: str, clip: Backbone, **settings: Any) -> Any:
    """A method in fp64 with values that no symmetry hides, fitted where it is."""
    cfg = dataclasses.replace(resolve(name).config, **settings)
    method: Any = build(name, cfg, clip, template=TEMPLATE, n_classes=len(NAMES), seed=0)
    method.double()
    if hasattr(method, "fit"):
        method.fit(bank(clip, method))
    with torch.no_grad():
        for parameter in method.parameters():
            generator = torch.Generator().manual_seed(2)
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).double())
    return method.eval()


def bank(clip: Backbone, method: Any, held: int = 9) -> Bank:
    labels = torch.tensor([2, 0, 3, 1, 3, 0])
    generator = torch.Generator().manual_seed(4)
    text = hand_written(clip, TEMPLATE)
    fimg = text[labels] + 0.1 * torch.randn(6, clip.embed_dim, generator=generator).double()
    truth = torch.arange(held) % 4
    fval = text[truth] + 0.3 * torch.randn(held, clip.embed_dim, generator=generator).double()
    return Bank(2 * fimg[None], labels, 2 * fval, truth, clip.logit_scale, {}, {}, 1)


def words(clip: Backbone, template: str) -> Tensor:
    rows = [clip.tokenize(template.replace("{}", name)) for name in NAMES]
    tokens = torch.tensor([row + [0] * (clip.context_length - len(row)) for row in rows])
    return clip.model.encode_text(tokens).detach()


def hand_written(clip: Backbone, template: str) -> Tensor:
    return torch.stack([unit(each) for each in words(clip, template).double()])


def learned(clip: Backbone, context: Tensor) -> Tensor:
    return ReferenceEncoder(clip, Prompt("a photo of a {}.", 4), NAMES)(context[None, None])[0]


def photo(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return SCALE * zimg @ hand_written(clip, "a photo of a {}.").T, {}


def own(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return SCALE * zimg @ hand_written(clip, TEMPLATE).T, {}


def of_coop(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    logits = SCALE * zimg @ learned(clip, method.base.ctx[0]).T
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


def shifted(method: Any, zimg: Tensor) -> Tensor:
    net = method.base.meta_net
    hidden = (net.linear1.weight @ zimg + net.linear1.bias).clamp(min=0)
    return method.base.ctx + net.linear2.weight @ hidden + net.linear2.bias


def of_cocoop(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    logits = torch.stack([SCALE * learned(clip, shifted(method, image)) @ image for image in zimg])
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


# before they see any test image
REFERENCES = {
    "tpt": photo,
    "tpt-coop": of_coop,
    "tpt-cocoop": of_cocoop,
    "mta": photo,
    "tda": own,
    "transclip": own,
    "transclip-few-shot": own,
}


def entropy(probabilities: Tensor) -> Tensor:
    return -sum(p * p.log() for p in probabilities)


def tuning_loss(clip: Backbone, views: Tensor, context: Tensor, kept: list[int]) -> Tensor:
    ztxt = learned(clip, context)
    each = [(MILD * ztxt @ unit(views[view])).softmax(0) for view in kept]
    return entropy(sum(each) / len(each))


def of_tpt(clip: Backbone, cfg: Any, views: Tensor, context: Tensor) -> Tensor:
    """One image: steps of AdamW on its context, by hand."""
    context = context.detach()
    start = learned(clip, context)
    doubt = [entropy((MILD * start @ unit(view)).softmax(0)).item() for view in views]
    kept = sorted(range(len(views)), key=lambda view: doubt[view])[: int(len(views) * cfg.confident)]
    mean, square = torch.zeros_like(context), torch.zeros_like(context)
    for step in range(1, cfg.updates + 1):
        context.requires_grad_()
        (gradient,) = torch.autograd.grad(tuning_loss(clip, views, context, kept), context)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        context = context.detach() * (1 - cfg.rate * DECAY)
        moved = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + EPS)
        context = context - cfg.rate * moved
    return MILD * learned(clip, context) @ unit(views[0])


def tpt_of(start: Callable[[Any, Any, Tensor], Tensor]) -> Callable[..., Tensor]:
    def reference(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> Tensor:
        return torch.stack([of_tpt(clip, cfg, views, start(method, cfg, views[0])) for views in fimg])

    return reference


def of_mta(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> Tensor:
    ztxt = hand_written(clip, "a photo of a {}.")
    rows = []
    for raw in fimg:
        views = [unit(view) for view in raw]
        count = len(views)
        chances = [(MILD * ztxt @ view).softmax(0) for view in views]
        width = []
        for view in views:
            far = sorted(float((view - other).pow(2).sum()) for other in views)[
                1 : int(0.3 * (count - 1)) + 1
            ]
            width.append(math.sqrt(0.5 * sum(far) / len(far)))

        def density(mode: Tensor, views: list = views, width: list = width) -> list[float]:
            pairs = zip(views, width, strict=True)
            return [math.exp(-(float((view - mode).norm()) ** 2) / (2 * h**2)) for view, h in pairs]

        mode, score = views[0], [1 / count] * count
        for _ in range(5):
            near = density(mode)
            for _ in range(5):
                before = score
                agree = [sum(float(p @ q) * y for q, y in zip(chances, score, strict=True)) for p in chances]
                raised = [(n + cfg.affinity * a) / cfg.spread for n, a in zip(near, agree, strict=True)]
                score = torch.tensor(raised).double().softmax(0).tolist()
                if math.dist(before, score) < 1e-6:
                    break
            for _ in range(5):
                last = mode
                weights = [d * y for d, y in zip(density(mode), score, strict=True)]
                mode = unit(sum(w * view for w, view in zip(weights, views, strict=True)))
                if float((last - mode).norm()) < 1e-6:
                    break
        rows.append(MILD * ztxt @ mode)
    return torch.stack(rows)


def of_tda(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> Tensor:
    ztxt, rows = hand_written(clip, TEMPLATE), []
    positive: dict[int, list] = {}
    negative: dict[int, list] = {}

    def take(cache: dict[int, list], label: int, size: int, item: tuple) -> None:
        held = cache.setdefault(label, [])
        if len(held) < size:
            held.append(item)
        elif held and item[0] < held[-1][0]:
            held[-1] = item
        held.sort(key=lambda one: one[0])

    for views in fimg:
        each = [(unit(view), MILD * ztxt @ unit(view)) for view in views]
        each.sort(key=lambda one: float(entropy(one[1].softmax(0))))
        kept = each[: max(1, len(each) // 10)]
        image = sum(one[0] for one in kept) / len(kept)
        logits = sum(one[1] for one in kept) / len(kept)
        chances = sum(one[1].softmax(0) for one in kept) / len(kept)
        loss, label = float(entropy(chances)), int(logits.argmax())
        take(positive, label, cfg.shots, (loss, image))
        if cfg.unsure[0] < loss / math.log2(len(NAMES)) < cfg.unsure[1]:
            take(negative, label, cfg.negative_shots, (loss, image, chances))
        logits = logits.clone()
        for label, held in positive.items():
            for item in held:
                logits[label] += cfg.alpha * math.exp(-cfg.beta * (1 - float(image @ item[1])))
        for held in negative.values():
            for item in held:
                speaks = math.exp(-cfg.negative_beta * (1 - float(image @ item[1])))
                for c, chance in enumerate(item[2]):
                    if cfg.unlikely[0] < chance < cfg.unlikely[1]:
                        logits[c] -= cfg.negative_alpha * speaks
        rows.append(logits)
    return torch.stack(rows)


def of_transclip(
    method: Any, clip: Backbone, cfg: Any, fimg: Tensor, shots: list | None = None, gamma: float = 0.0
) -> Tensor:
    return solution(clip, cfg.power, [unit(views[0]) for views in fimg], shots or [], gamma)[0].log()


def solution(
    clip: Backbone,
    power: float,
    images: list[Tensor],
    shots: list[tuple[Tensor, int]],
    gamma: float,
    begin: tuple | None = None,
    misplaced: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Assignments, means and variance, with loops over pairs of images and over classes."""
    n, classes, wide = len(images), len(NAMES), clip.embed_dim
    text = hand_written(clip, TEMPLATE)
    prior = torch.stack([(MILD * text @ image).softmax(0) for image in images])
    if begin is None:
        means = []
        for c in range(classes):
            if shots:
                means.append(unit(sum(s for s, label in shots if label == c)))
            else:
                best = sorted(range(n), key=lambda i: -float(prior[i, c]))[:8]
                means.append(unit(sum(prior[i, c] * images[i] for i in best)))
        begin = prior, torch.stack(means), torch.full((wide,), 1 / wide).double()
    z, mean, variance = begin
    rows = [*(s for s, _ in shots), *images]
    near = []  # (row, column, affinity)
    for row, one in enumerate(rows):
        alike = [float(one @ other) for other in images]
        for column in sorted(range(n), key=lambda j: -alike[j])[1:4]:
            near.append((row, column, alike[column]))
    labels = torch.zeros(len(shots), classes).double()
    for row, (_, label) in enumerate(shots):
        labels[row, label] = 1
    for turn in range(11):
        likely = torch.zeros(n, classes).double()
        for i in range(n):
            for c in range(classes):
                likely[i, c] = -0.5 * ((images[i] - mean[c]) ** 2 / variance).sum()
        for _ in range(5):
            everyone = torch.cat([z, labels]) if misplaced else torch.cat([labels, z])
            pull = torch.zeros(n, classes).double()
            own = torch.zeros(len(rows), classes).double()
            for row, column, weight in near:
                pull[column] += weight * everyone[row]
                own[row] += weight * z[column]
            pull += own[:n] if misplaced else own[len(shots) :]
            raised = prior**power * torch.exp((likely + 50 / 6 * pull) / 50)
            z = raised / raised.sum(1, keepdim=True)
        if turn == 10:
            break
        weights = torch.cat([labels * gamma * 50 / max(1, len(shots)), z / n])
        mean = torch.stack(
            [unit(sum(w * x for w, x in zip(weights[:, c], rows, strict=True))) for c in range(classes)]
        )
        variance = torch.zeros(wide).double()
        for row, x in enumerate(rows):
            for c in range(classes):
                variance = variance + weights[row, c] * (x - mean[c]) ** 2
        variance = variance / weights.sum()
    return z, mean, variance


def few_shot(
    method: Any, clip: Backbone, cfg: Any, fimg: Tensor, released: bool = True
) -> tuple[Tensor, float]:
    known = bank(clip, method)
    images = [unit(views[0]) for views in fimg]
    shots = [(unit(x), int(label)) for x, label in zip(known.fimg[0], known.labels, strict=True)]
    twins = [max(range(len(images)), key=lambda i: float(images[i] @ x)) for x in known.fval]
    best: tuple[int, float, Tensor] | None = None
    state = None
    for gamma in cfg.weights:
        begin = state if released else None
        state = solution(clip, cfg.power, images, shots, gamma, begin, misplaced=released)
        right = sum(int(state[0][i].argmax()) == int(c) for i, c in zip(twins, known.val_labels, strict=True))
        if best is None or right > best[0]:
            best = (right, gamma, state[0].log())
    assert best is not None
    return best[2], best[1]


ADAPTED: dict[str, tuple[Callable[..., Tensor], int, int, dict[str, Any]]] = {
    # name -> reference, images, views, settings
    "tpt": (tpt_of(lambda m, cfg, x: m.ctx), 3, 12, {"looks": 12, "confident": 0.3, "updates": 2}),
    "tpt-coop": (tpt_of(lambda m, cfg, x: m.base.ctx[0]), 3, 12, {"looks": 12, "confident": 0.3}),
    "tpt-cocoop": (
        tpt_of(lambda m, cfg, x: shifted(m, x if cfg.raw else unit(x))),
        3,
        12,
        {"looks": 12, "confident": 0.3},
    ),
    "mta": (of_mta, 3, 12, {"looks": 12}),
    "tda": (of_tda, 40, 1, {"unsure": (0.1, 0.6)}),
    "transclip": (of_transclip, 21, 1, {}),
    "transclip-few-shot": (lambda *args: few_shot(*args)[0], 15, 1, {}),
}


def test_every_method_that_sees_test_images_has_a_reference() -> None:
    assert ADAPTED.keys() == REFERENCES.keys() == set(SEES)


@pytest.mark.parametrize("name", SEES)
def test_it_has_the_hook_that_its_facts_say(name: str, mild: Backbone) -> None:
    method, facts = made(name, mild), METHODS.get(name).facts
    assert {kind for kind, hook in HOOKS.items() if isinstance(method, hook)} == {facts.adapts_to}
    assert facts.adaptation


@pytest.mark.parametrize("name", SEES)
def test_answers_are_the_formula(name: str, mild: Backbone) -> None:
    reference, count, views, settings = ADAPTED[name]
    method, fimg = made(name, mild, **settings), seen(mild, count, views)
    cfg = dataclasses.replace(resolve(name).config, **settings)
    ours = Classifier(mild, method, NAMES).predict(fimg)
    expected = reference(method, mild, cfg, fimg).detach()
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)
    plain = Classifier(mild, method, NAMES)(fimg[:, 0]).detach()
    assert not torch.allclose(ours.softmax(1), plain.softmax(1), atol=1e-4)


def test_tpt_on_cocoop_as_released_makes_its_context_of_raw_features(mild: Backbone) -> None:
    reference, count, views, settings = ADAPTED["tpt-cocoop"]
    method, fimg = made("tpt-cocoop", mild, raw=True, **settings), seen(mild, count, views)
    cfg = dataclasses.replace(resolve("tpt-cocoop").config, raw=True, **settings)
    ours = Classifier(mild, method, NAMES).predict(fimg)
    torch.testing.assert_close(ours, reference(method, mild, cfg, fimg).detach(), rtol=1e-8, atol=1e-8)


def test_tpts_loss_and_gradient(mild: Backbone) -> None:
    method, fimg = made("tpt", mild), seen(mild, 2, 6)
    classifier = Classifier(mild, method, NAMES)
    images = classifier._unlabelled(fimg)
    contexts = method.ctx.repeat(2, 1, 1, 1).requires_grad_()
    logits = view_logits(images, contexts)
    views = surest(logits.detach(), 0.5)
    loss = entropy_of_mean(picked(logits, views))
    expected = torch.stack([tuning_loss(mild, fimg[i], contexts[i, 0], views[i].tolist()) for i in range(2)])
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    mine, theirs = (torch.autograd.grad(each.sum(), contexts)[0] for each in (loss, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    assert mine.abs().max() > 1e-4


@pytest.mark.parametrize("released", [True, False], ids=["code", "paper"])
def test_transclip_selects_the_weight_of_its_shots(released: bool, mild: Backbone) -> None:
    follows = "code" if released else "paper"
    method, fimg = made("transclip-few-shot", mild, follows=follows), seen(mild, 15, 1, seed=3)
    classifier = Classifier(mild, method, NAMES)
    ours = classifier.predict(fimg)
    logits, gamma = few_shot(method, mild, resolve("transclip-few-shot").config, fimg, released)
    torch.testing.assert_close(ours, logits, rtol=1e-8, atol=1e-8)
    assert classifier.selected == {"weight": gamma}


def test_without_validation_images_the_weight_stays(mild: Backbone) -> None:
    method, fimg = made("transclip-few-shot", mild, weight=0.05, follows="paper"), seen(mild, 15, 1)
    method.fit(bank(mild, method, held=0))
    classifier = Classifier(mild, method, NAMES)
    known = bank(mild, method)
    shots = [(unit(x), int(label)) for x, label in zip(known.fimg[0], known.labels, strict=True)]
    expected = solution(mild, 0.5, [unit(x) for x in fimg[:, 0]], shots, 0.05)[0].log()
    torch.testing.assert_close(classifier.predict(fimg), expected, rtol=1e-8, atol=1e-8)
    assert classifier.selected == {"weight": 0.05}


DEGENERATE: list[tuple[str, dict[str, Any], int]] = [
    ("tpt", {"updates": 0, "looks": 5}, 5),
    ("tpt-coop", {"updates": 0, "looks": 5}, 5),
    ("tpt-cocoop", {"updates": 0, "looks": 5}, 5),
    ("mta", {"looks": 1}, 1),
    ("tda", {"alpha": 0.0, "negative_alpha": 0.0}, 1),
    ("tda", {"shots": 0, "negative_shots": 0}, 1),
    ("tda", {"alpha": 0.0, "unsure": (2.0, 3.0)}, 1),
]


@pytest.mark.parametrize(("name", "settings", "views"), DEGENERATE)
def test_what_adapts_nothing_answers_as_before(
    name: str, settings: dict[str, Any], views: int, mild: Backbone
) -> None:
    method, fimg = made(name, mild, **settings), seen(mild, 7, views)
    classifier = Classifier(mild, method, NAMES)
    torch.testing.assert_close(
        classifier.predict(fimg), classifier(fimg[:, 0]).detach(), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", ["transclip", "transclip-few-shot"])
def test_transclip_that_heeds_clip_alone_is_zero_shot(name: str, mild: Backbone) -> None:
    fimg = seen(mild, 30, 1)
    answers = {power: Classifier(mild, made(name, mild, power=power), NAMES) for power in (0.5, 1e6)}
    zero = answers[1e6](fimg[:, 0]).argmax(1)
    assert torch.equal(answers[1e6].predict(fimg).argmax(1), zero)
    chances = answers[1e6].predict(fimg).softmax(1)
    torch.testing.assert_close(chances.max(1).values, torch.ones(30).double())


def test_views_that_are_all_the_same_are_their_own_mode(mild: Backbone) -> None:
    fimg = seen(mild, 4, 1).expand(4, 8, -1)
    classifier = Classifier(mild, made("mta", mild, looks=8), NAMES)
    torch.testing.assert_close(classifier.predict(fimg), classifier(fimg[:, 0]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in SEES if METHODS.get(name).facts.adapts_to == "views"])
def test_an_image_is_answered_as_if_it_were_alone(
    name: str, mild: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, views, settings = ADAPTED[name]
    fimg = seen(mild, 5, views)
    classifier = Classifier(mild, made(name, mild, **settings), NAMES)
    together = classifier.predict(fimg)
    torch.testing.assert_close(
        torch.cat([classifier.predict(one) for one in fimg.split(1)]), together, rtol=1e-8, atol=1e-8
    )
    monkeypatch.setattr("cocoop.training.classifier.TEXTS_AT_ONCE", 2 * len(NAMES))
    torch.testing.assert_close(classifier.predict(fimg), together, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in SEES if METHODS.get(name).facts.adapts_to == "stream"])
def test_an_answer_in_a_stream_depends_on_what_came_before_alone(name: str, mild: Backbone) -> None:
    fimg = seen(mild, 30, 1)
    classifier = Classifier(mild, made(name, mild), NAMES)
    whole = classifier.predict(fimg)
    torch.testing.assert_close(classifier.predict(fimg[:11]), whole[:11], rtol=1e-9, atol=1e-9)
    turned = classifier.predict(fimg.flip(0)).flip(0)
    assert not torch.allclose(turned, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in SEES if METHODS.get(n).facts.adapts_to == "whole set"])
def test_the_order_of_a_whole_set_makes_no_difference(name: str, mild: Backbone) -> None:
    fimg, order = seen(mild, 15, 1), torch.randperm(15, generator=torch.Generator().manual_seed(1))
    settings = {"follows": "paper"} if name == "transclip-few-shot" else {}
    classifier = Classifier(mild, made(name, mild, **settings), NAMES)
    torch.testing.assert_close(
        classifier.predict(fimg[order]), classifier.predict(fimg)[order], rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("name", SEES)
def test_classes_in_another_order(name: str, mild: Backbone) -> None:
    _, count, views, settings = ADAPTED[name]
    method, fimg = made(name, mild, **settings), seen(mild, count, views)
    order = [2, 0, 3, 1]
    expected = Classifier(mild, method, NAMES).predict(fimg)[:, order]
    other = Classifier(mild, method, [NAMES[c] for c in order], None, NAMES)
    torch.testing.assert_close(other.predict(fimg), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", SEES)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_are_answered_too(name: str, count: int, mild: Backbone) -> None:
    method, views = made(name, mild), resolve(name).config
    fimg = seen(mild, count, getattr(views, "looks", 1))
    logits = Classifier(mild, method, NAMES).predict(fimg)
    assert logits.shape == (count, len(NAMES))
    assert logits.isfinite().all()


def test_the_images_of_some_classes_alone(mild: Backbone) -> None:
    """Shots and validation images of classes that are no candidates play no part."""
    method, fimg = made("transclip-few-shot", mild), seen(mild, 15, 1)
    known = bank(mild, method)
    some = Classifier(mild, method, NAMES[1:3], None, NAMES).predict(fimg)
    of = (known.labels == 1) | (known.labels == 2), (known.val_labels == 1) | (known.val_labels == 2)
    cut = dataclasses.replace(
        known,
        fimg=known.fimg[:, of[0]],
        labels=known.labels[of[0]] - 1,
        fval=known.fval[of[1]],
        val_labels=known.val_labels[of[1]] - 1,
    )
    method.fit(cut)
    torch.testing.assert_close(Classifier(mild, method, NAMES[1:3]).predict(fimg), some, rtol=1e-7, atol=1e-7)
    with pytest.raises(UsageError, match="others have none: 'violin'"):
        Classifier(mild, method, [*NAMES, "violin"], None, NAMES)


def test_what_is_kept_of_shots_can_be_saved(mild: Backbone) -> None:
    method, fimg = made("transclip-few-shot", mild), seen(mild, 15, 1)
    again: Any = build(
        "transclip-few-shot",
        resolve("transclip-few-shot").config,
        mild,
        template=TEMPLATE,
        n_classes=4,
        seed=5,
    )
    load_learned(again.double(), method.state_dict())
    ours, theirs = (Classifier(mild, each, NAMES).predict(fimg) for each in (method, again.eval()))
    assert torch.equal(ours, theirs)


def test_a_large_set_is_searched_for_neighbours_in_pieces(
    mild: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    fimg = seen(mild, 15, 1)
    classifier = Classifier(mild, made("transclip", mild), NAMES)
    whole = classifier.predict(fimg)
    monkeypatch.setattr(transduction, "AT_ONCE", 4)
    torch.testing.assert_close(classifier.predict(fimg), whole, rtol=1e-9, atol=1e-9)


def test_tda_on_several_views_is_the_mean_of_the_surest(mild: Backbone) -> None:
    settings = {"looks": 20, "unsure": (0.1, 0.6)}
    method, fimg = made("tda", mild, **settings), seen(mild, 30, 20)
    cfg = dataclasses.replace(resolve("tda").config, **settings)
    ours = Classifier(mild, method, NAMES).predict(fimg)
    torch.testing.assert_close(ours, of_tda(method, mild, cfg, fimg), rtol=1e-8, atol=1e-8)


def test_a_cache_keeps_the_surest_and_the_first_of_equals() -> None:
    cache = Cache(2, 2, torch.zeros(1))
    for number, loss in enumerate([0.5, 0.3, 0.3, 0.4, 0.1], start=1):
        cache.add(1, torch.tensor([float(number)]), torch.tensor(loss), torch.tensor([0.0, 1.0]))
    assert cache.keys[1, :, 0].tolist() == [5.0, 2.0]
    assert cache.loss[0].isinf().all()


def test_other_numbers_of_views_are_refused(mild: Backbone) -> None:
    classifier = Classifier(mild, made("mta", mild, looks=4), NAMES)
    with pytest.raises(UsageError, match=r"MTA looks at 4 view\(s\) of every image, not at 1; give"):
        classifier.predict(seen(mild, 3, 1)[:, 0])
    with pytest.raises(UsageError, match="not at 5"):
        classifier.predict(seen(mild, 3, 5))


def test_the_best_epoch_is_of_answers_before_it_adapts(mild: Backbone) -> None:
    method, fimg = made("tpt-coop", mild), seen(mild, 6, 1)[:, 0]
    classifier = Classifier(mild, method, NAMES)
    plain = classifier(fimg).argmax(1)
    samples = Samples(lambda epoch: fimg, torch.arange(6) % 4, lambda kind: (fimg, plain))
    log = fit(classifier, samples, Recipe(epochs=1, batch_size=4, warmup_lr=1e-9, keep="best"), seed=1)
    assert log.accuracy == [1.0]
    torch.testing.assert_close(classifier.predict_unadapted(fimg), classifier(fimg).detach())


def test_a_method_that_was_not_told_that_it_is_tested_adapts_too(mild: Backbone) -> None:
    method, fimg = made("mta", mild, looks=8), seen(mild, 3, 8)
    classifier = Classifier(mild, method, NAMES)
    expected = classifier.predict(fimg)
    method.train()
    assert torch.equal(classifier.predict(fimg), expected)
    assert method.training


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("tpt", {"confident": 0.0}, "confident must be above 0"),
        ("tpt", {"updates": -1}, "updates must be at least 0"),
        ("tpt-coop", {"rate": 0.0}, "rate must be above 0"),
        ("tpt-cocoop", {"looks": 0}, "at least 1 view"),
        ("mta", {"spread": 0.0}, "spread must be above 0"),
        ("mta", {"templates": ("no place",)}, "once, for the class name"),
        ("tda", {"shots": -1}, "shots and negative_shots must be at least 0"),
        ("transclip", {"power": -1.0}, "power must be at least 0"),
        ("transclip-few-shot", {"weights": ()}, "at least one of weights"),
        ("transclip-few-shot", {"weight": -0.1}, "must be at least 0"),
    ],
)
def test_settings_that_make_no_sense(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(resolve(name).config, **settings)


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        ("tpt-released", {"ctx_init": "a photo of a", "looks": 64, "augmix": True, "confident": 0.1}),
        ("tpt-released", {"updates": 1, "rate": 0.005}),
        ("tpt-coop-paper", {"n_ctx": 4, "looks": 64, "augmix": False, "updates": 1, "rate": 0.005}),
        ("tpt-cocoop-released", {"raw": True, "looks": 64, "augmix": False, "updates": 1, "rate": 0.005}),
        ("tpt-cocoop-paper", {"raw": False, "reduction": 16}),
        ("mta-released", {"looks": 64, "affinity": 4.0, "spread": 0.2, "templates": ("a photo of a {}.",)}),
        ("tda-released", {"shots": 3, "negative_shots": 2, "negative_alpha": 0.117, "negative_beta": 1.0}),
        ("tda-released", {"unsure": (0.2, 0.5), "unlikely": (0.03, 1.0), "templates": ("dataset",)}),
        ("transclip-released", {"power": 1.0, "templates": ("dataset",)}),
        ("transclip-few-shot-released", {"power": 0.5, "weights": (0.002, 0.01, 0.02, 0.2)}),
        ("transclip-few-shot-released", {"follows": "code"}),
    ],
)
def test_released_values(preset: str, values: dict[str, Any]) -> None:
    choice = resolve(preset.rpartition("-")[0], preset)
    assert values.items() <= dataclasses.asdict(choice.config).items()


def test_released_values_of_single_datasets() -> None:
    on = {
        name: resolve("tda").on(name).config for name in ("eurosat", "imagenet_sketch", "imagenet", "other")
    }
    assert (on["eurosat"].alpha, on["eurosat"].beta, on["eurosat"].looks) == (4.0, 8.0, 1)
    assert (on["imagenet_sketch"].alpha, on["imagenet_sketch"].beta) == (2.363, 7.45)
    assert (on["imagenet_sketch"].looks, on["imagenet_sketch"].augmix) == (64, True)
    assert (on["imagenet"].looks, on["imagenet"].templates) == (1, ("select7",))
    assert (on["other"].alpha, on["other"].beta) == (2.0, 5.0)
    assert resolve("tpt").on("imagenet_a").config.augmix is False
    assert resolve("tpt").on("dtd").config.augmix is True
    few = resolve("transclip-few-shot").recipe
    assert few is not None
    assert (few.epochs, few.views, few.augmentation) == (0, 1, "none")


def test_image_views() -> None:
    first, *others = ImageViews(4, augmix=True).of(7, 3)
    assert first.seeds is None
    assert len({view.seeds for view in others}) == 3
    assert {(view.look, len(view.seeds or ())) for view in others} == {("augmix", 3)}
    assert ImageViews(4).of(7, 3)[1].seeds == others[0].seeds


def test_unlabelled_images_are_normalised_view_by_view(mild: Backbone) -> None:
    images = Unlabelled(seen(mild, 2, 3), lambda contexts: contexts, MILD, {}, None)
    torch.testing.assert_close(images.zimg.norm(dim=-1), torch.ones(2, 3).double())
