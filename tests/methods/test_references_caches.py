"""Caches and Gaussians of the few shots are their formulas, by loops over images and scales, in fp64."""

import dataclasses
import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocoop import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS, build
from cocoop.methods import _cache as cache
from cocoop.methods._hooks import Bank
from cocoop.methods._parts import load_learned
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import resolve
from cocoop.training.classifier import Classifier
from cocoop.training.loop import fit
from cocoop.training.samples import Samples

NAMES = ["red apple", "green tea", "dog", "dog house"]
NEW_NAMES = ["violin", "red bus", "teapot"]
TEMPLATE = "a type of pet, a photo of a {}."
LABELS = torch.tensor([0, 3, 1, 2, 3])
SHOTS = torch.tensor([2, 0, 3, 1, 3, 0, 3])  # 2, 1, 1 and 3 images
VAL = torch.arange(12) % 4
SCALE = 100.0
CACHES = ["tip-adapter", "tip-adapter-f", "ape"]
CLOSED = ["tip-adapter", "ape", "gda"]


def features(backbone: Backbone, labels: Tensor, views: int, seed: int) -> Tensor:
    """Raw views of images that are somewhat like their class."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, backbone.embed_dim, generator=torch.Generator().manual_seed(9))
    noise = torch.randn(views, len(labels), backbone.embed_dim, generator=generator)
    return (centres[labels] + 1.5 * noise).double()


def bank(backbone: Backbone, method: Any, names: Sequence[str] = NAMES, labels: Tensor = SHOTS) -> Bank:
    """Three raw views of a few images of each class, and validation images."""
    classifier = Classifier(backbone, method, names)
    return Bank(
        fimg=features(backbone, SHOTS, 3, 4),
        labels=labels,
        fval=features(backbone, VAL, 1, 5)[0],
        val_labels=VAL,
        logit_scale=backbone.logit_scale,
        text=classifier.text,
        sentences=classifier.sentences,
        seed=1,
    )


def prepared(name: str, clip: Backbone, **settings: Any) -> Any:
    cfg = dataclasses.replace(resolve(name).config, **settings)
    method: Any = build(name, cfg, clip, template=TEMPLATE, n_classes=len(NAMES), seed=0)
    return method.double()


def fitted(name: str, clip: Backbone, **settings: Any) -> Any:
    method = prepared(name, clip, **settings)
    method.fit(bank(clip, method))
    return method.eval()


def images(clip: Backbone) -> Tensor:
    return F.normalize(torch.randn(5, clip.embed_dim, generator=torch.Generator().manual_seed(1)).double())


def unit(vector: Tensor) -> Tensor:
    return vector / vector.square().sum().sqrt()


def weights(
    clip: Backbone, names: Sequence[str] = NAMES, templates: Sequence[str] = (TEMPLATE,)
) -> list[Tensor]:
    """Normalised mean of normalised features of each class, by open_clip."""
    rows = []
    for name in names:
        tokens = [clip.tokenize(template.replace("{}", name)) for template in templates]
        padded = [row + [0] * (clip.context_length - len(row)) for row in tokens]
        rows.append(unit(sum(map(unit, clip.model.encode_text(torch.tensor(padded)).detach())) / len(tokens)))
    return rows


def keys(clip: Backbone) -> list[Tensor]:
    return [unit(views.mean(0)) for views in features(clip, SHOTS, 3, 4).unbind(1)]


def with_cache(
    z: Tensor, base: list[Tensor], pairs: list[tuple[Tensor, Tensor, int, Any]], alpha: Any, beta: Any
):
    """One image's logits; pairs are its cached counterpart, a key, the key's class, its weight."""
    logits = [SCALE * z @ weight for weight in base]
    for own, key, label, weight in pairs:
        logits[label] = logits[label] + alpha * weight * torch.exp(-beta + beta * (own @ key))
    return torch.stack(logits)


def of_tip_adapter(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    base, cached = weights(clip), list(zip(keys(clip), SHOTS.tolist(), strict=True))
    rows = [
        with_cache(z, base, [(z, key, label, 1) for key, label in cached], method.alpha, method.beta)
        for z in zimg
    ]
    return torch.stack(rows), {}


def of_tip_adapter_f(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    base = weights(clip)
    cached = [(method.keys[c, k], c) for c, count in enumerate([2, 1, 1, 3]) for k in range(count)]
    rows = [
        with_cache(z, base, [(z, key, label, 1) for key, label in cached], method.alpha, method.beta)
        for z in zimg
    ]
    logits = torch.stack(rows)
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


def ape_parts(clip: Backbone, share: float, lam: float) -> tuple[Tensor, list[tuple[Tensor, int, Tensor]]]:
    """The channels; and of every image its key there, its class and its divergence."""
    text = weights(clip)
    everything = [*zip(text, range(4), strict=True), *zip(keys(clip), SHOTS.tolist(), strict=True)]
    products = [a * b for a, i in everything for b, j in everything if i != j]
    similarity = sum(products) / len(products)
    score = -lam * similarity + (1 - lam) * torch.stack(text).var(0)
    channels = score.argsort(descending=True)[: int(share * len(score))]
    short = torch.stack([unit(weight[channels]) for weight in text])
    cached = []
    for key, label in zip(keys(clip), SHOTS.tolist(), strict=True):
        said = torch.softmax(short @ unit(key[channels]), 0)
        truth = F.one_hot(torch.tensor(label), 4).double()
        cached.append((unit(key[channels]), label, (truth * ((truth + 1e-6) / (said + 1e-6)).log2()).sum()))
    return channels, cached


def of_ape(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    channels, cached = ape_parts(clip, cfg.channels, cfg.similarity)
    base, rows = weights(clip), []
    for z in zimg:
        pairs = [
            (unit(z[channels]), key, label, torch.exp(method.gamma * bits)) for key, label, bits in cached
        ]
        rows.append(with_cache(z, base, pairs, method.alpha, method.beta))
    return torch.stack(rows), {}


def of_gda(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    views, labels = torch.stack([*map(unit, features(clip, SHOTS, 3, 4).flatten(0, 1))]), SHOTS.repeat(3)
    dim = views.shape[1]
    means = torch.stack([views[labels == c].mean(0) for c in range(4)])
    if cfg.covariance == "mean":
        inverse = torch.linalg.pinv(sum(views[labels == c].T.cov() for c in range(4)) / 4)
    else:
        cov = torch.stack([v - means[c] for v, c in zip(views, labels, strict=True)]).T.cov()
        inverse = dim * torch.linalg.pinv((len(views) - 1) * cov + cov.trace() * torch.eye(dim).double())
    return gaussian(zimg, torch.stack(weights(clip)), means, inverse, method.alpha), {}


def gaussian(zimg: Tensor, text: Tensor, means: Tensor, inverse: Tensor, alpha: Any) -> Tensor:
    prior = math.log(1 / len(means))
    scores = [[mean @ inverse @ z - mean @ inverse @ mean / 2 + prior for mean in means] for z in zimg]
    return SCALE * zimg @ text.T + alpha * torch.stack([torch.stack(row) for row in scores])


REFERENCES = {
    "tip-adapter": of_tip_adapter,
    "tip-adapter-f": of_tip_adapter_f,
    "ape": of_ape,
    "gda": of_gda,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_what_is_fitted_is_the_formula(name: str, deep: Backbone) -> None:
    """Beside the references of every method: the keys of Tip-Adapter-F as they are before any step."""
    method = fitted(name, deep)
    expected, _ = REFERENCES[name](method, deep, method.cfg, images(deep))
    torch.testing.assert_close(
        Classifier(deep, method, NAMES).predict(images(deep)), expected.detach(), rtol=1e-9, atol=1e-9
    )
    if name == "tip-adapter-f":
        torch.testing.assert_close(method.keys.detach(), fitted("tip-adapter", deep).keys)


def test_gda_with_the_mean_of_the_classes_covariances(deep: Backbone) -> None:
    method = fitted("gda", deep, covariance="mean")
    expected, _ = of_gda(method, deep, method.cfg, images(deep))
    ours = Classifier(deep, method, NAMES).predict(images(deep))
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-7)
    assert not torch.allclose(ours, Classifier(deep, fitted("gda", deep), NAMES).predict(images(deep)))


@pytest.mark.parametrize(("nearest", "copies"), [(5, 16), (64, 3)])
def test_gda_of_new_names(nearest: int, copies: int, deep: Backbone) -> None:
    method = fitted("gda", deep, nearest=nearest, copies=copies, alpha=2.0)
    views = torch.stack([*map(unit, features(deep, SHOTS, 3, 4).flatten(0, 1))])
    text, dim = torch.stack(weights(deep, NEW_NAMES)), views.shape[1]
    means, inverses = [], []
    for name in text:
        near = views[(views @ name).argsort(descending=True)[:nearest]]
        means.append(torch.cat([near, name.repeat(copies, 1)]).mean(0))
        cov = sum(torch.outer(v - name, v - name) for v in near) / (len(near) - 1)
        ridge = cov.trace() * torch.eye(dim).double()
        inverses.append(dim * torch.linalg.pinv((len(near) - 1) * cov + ridge))
    expected = gaussian(images(deep), text, torch.stack(means), sum(inverses) / 3, 2.0)
    ours = Classifier(deep, method, NEW_NAMES, trained_names=NAMES).predict(images(deep))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def right(logits: Tensor) -> int:
    return int((logits.argmax(1) == VAL).sum())


@pytest.mark.parametrize("at_once", [1, 1 << 19], ids=["image by image", "whole"])
@pytest.mark.parametrize("name", CACHES)
def test_the_first_best_scales_are_selected(
    name: str, at_once: int, deep: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "AT_ONCE", at_once)
    scales = ("beta", "alpha", "gamma") if name == "ape" else ("beta", "alpha")
    highest, steps = (20.0, 120.0, 0.04)[: len(scales)], (5, 6, 3)[: len(scales)]
    method = fitted(name, deep, grid=steps, highest=highest, alpha=1e-6)
    reference = of_ape if name == "ape" else of_tip_adapter  # of the keys as they are before any step
    zval, tried = F.normalize(features(deep, VAL, 1, 5)[0]), []
    for places in product(*map(range, steps)):
        lowest = (0.1, 0.1, 0.0)
        values = [
            low + n * (high - low) / s
            for n, low, high, s in zip(places, lowest, highest, steps, strict=False)
        ]
        for scale, value in zip(scales, values, strict=True):
            getattr(method, scale).fill_(value)
        count = right(reference(method, deep, method.cfg, zval)[0])
        tried.append((count, dict(zip(scales, values, strict=True))))
    best = max(count for count, _ in tried)
    assert tried[0][0] < best  # else any search would do
    assert sum(count == best for count, _ in tried) > 1
    expected = next(values for count, values in tried if count == best)
    selected = fitted(name, deep, grid=steps, highest=highest, alpha=1e-6)
    told = selected.finish(bank(deep, selected))
    assert told == {scale: pytest.approx(expected[scale], rel=1e-5) for scale in told}
    assert told == {scale: pytest.approx(getattr(selected, scale).item(), rel=1e-5) for scale in told}


def test_gda_selects_the_first_best_alpha(deep: Backbone) -> None:
    method = fitted("gda", deep)
    zval, counts = F.normalize(features(deep, VAL, 1, 5)[0]), []
    for alpha in method.cfg.alphas:
        method.alpha.fill_(alpha)
        counts.append(right(of_gda(method, deep, method.cfg, zval)[0]))
    assert counts[0] < max(counts)
    assert method.finish(bank(deep, method)) == {"alpha": method.cfg.alphas[counts.index(max(counts))]}


def test_an_image_that_a_wrong_class_ties_with_is_wrong() -> None:
    keys, values = torch.eye(3)[:, None], torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    zero, zimg = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    scales = torch.tensor([0.5]), torch.tensor([1.0, 9.0])
    found = [cache.search(zero, torch.tensor([label]), zimg, keys, values, *scales) for label in (0, 2)]
    assert found == [(0, (0, 0, 0)), (1, (0, 1, 0))]


@pytest.mark.parametrize("name", [*CACHES, "gda"])
def test_without_validation_images_the_scales_stay(name: str, deep: Backbone) -> None:
    method = fitted(name, deep)
    before = Classifier(deep, method, NAMES).predict(images(deep))
    none = dataclasses.replace(bank(deep, method), fval=torch.empty(0, deep.embed_dim), val_labels=VAL[:0])
    told = method.finish(none)
    assert told == {scale: pytest.approx(getattr(method.cfg, scale)) for scale in told}
    assert torch.equal(Classifier(deep, method, NAMES).predict(images(deep)), before)


def test_tip_adapter_f_keeps_scales_that_no_others_beat(deep: Backbone) -> None:
    """The grid has values alone that say nothing."""
    dull = {"grid": (1, 1), "highest": (0.2, 0.2)}
    method = fitted("tip-adapter-f", deep, alpha=50.0, beta=6.0, **dull)
    assert method.finish(bank(deep, method)) == {"alpha": 50.0, "beta": 6.0}
    plain = fitted("tip-adapter", deep, alpha=50.0, beta=6.0, **dull)
    assert plain.finish(bank(deep, plain)) == pytest.approx({"alpha": 0.1, "beta": 0.1})


@pytest.mark.parametrize("name", [*CACHES, "gda"])
def test_with_alpha_0_it_is_zero_shot(name: str, deep: Backbone) -> None:
    zero = build("zeroshot", resolve("zeroshot").config, deep, template=TEMPLATE, n_classes=4, seed=0)
    ours = Classifier(deep, fitted(name, deep, alpha=0.0), NAMES).predict(images(deep))
    torch.testing.assert_close(
        ours, Classifier(deep, zero, NAMES).predict(images(deep)), rtol=1e-9, atol=1e-9
    )


def test_ape_in_all_channels_with_equal_weights_is_tip_adapter(deep: Backbone) -> None:
    scales = {"alpha": 3.0, "beta": 2.0}
    ape = fitted("ape", deep, channels=1.0, gamma=0.0, **scales)
    tip = fitted("tip-adapter", deep, **scales)
    ours, theirs = (Classifier(deep, each, NAMES).predict(images(deep)) for each in (ape, tip))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*CACHES, "gda"])
def test_classes_in_another_order_and_some_of_them(name: str, deep: Backbone) -> None:
    method, order = fitted(name, deep), [2, 0, 3, 1]
    whole = Classifier(deep, method, NAMES).predict(images(deep))
    names = [NAMES[place] for place in order]
    asked = Classifier(deep, method, names, trained_names=NAMES).predict(images(deep))
    torch.testing.assert_close(asked, whole[:, order])
    two = Classifier(deep, method, NAMES[1:3], trained_names=NAMES).predict(images(deep))
    torch.testing.assert_close(two, whole[:, 1:3])
    again: Any = build(name, method.cfg, deep, template=TEMPLATE, n_classes=4, seed=0)
    labels = torch.tensor([order.index(label) for label in SHOTS.tolist()])
    again.double().fit(bank(deep, again, names, labels))
    torch.testing.assert_close(Classifier(deep, again, names).predict(images(deep)), whole[:, order])


@pytest.mark.parametrize("name", [*CACHES, "gda"])
def test_what_is_fitted_can_be_saved(name: str, deep: Backbone) -> None:
    method = fitted(name, deep)
    method.finish(bank(deep, method))
    again: Any = build(name, method.cfg, deep, template=TEMPLATE, n_classes=4, seed=3)
    load_learned(again.double(), method.state_dict())
    lists = (NAMES, NEW_NAMES) if method.transferable else (NAMES,)
    for names in lists:
        ours, theirs = (
            Classifier(deep, each, names, trained_names=NAMES).predict(images(deep))
            for each in (again, method)
        )
        assert torch.equal(ours, theirs)


def test_the_trained_cache_is_no_other_ones(deep: Backbone) -> None:
    tip, tuned = fitted("tip-adapter", deep), fitted("tip-adapter-f", deep)
    shared = bank(deep, tip)
    for method in (tip, tuned):
        method.fit(shared)
    before = tip.keys.clone(), shared.fimg.clone()
    with torch.no_grad():
        tuned.keys.add_(1)
    assert torch.equal(tip.keys, before[0])
    assert torch.equal(shared.fimg, before[1])


def test_tip_adapter_f_ends_with_the_best_epoch_and_searched_scales(deep: Backbone) -> None:
    """Interrupted as well, which is when its keys are not those of the cache any more."""
    method, again = fitted("tip-adapter-f", deep), prepared("tip-adapter-f", deep)
    start = method.keys.detach().clone()
    samples = Samples(
        lambda epoch: features(deep, SHOTS, 1, 30 + epoch)[0],
        SHOTS,
        lambda selection: (features(deep, VAL, 1, 5)[0], VAL),
    )
    recipe = dataclasses.replace(resolve("tip-adapter-f").recipe or Recipe(), epochs=3, views=2)
    snapshots: list[Any] = []
    classifier = Classifier(deep, method, NAMES)
    log = fit(classifier, samples, recipe, seed=1, on_epoch=lambda epoch: snapshots.append(epoch.snapshot()))
    assert len(log.loss) == len(log.accuracy) == 3
    assert log.selected == pytest.approx({"alpha": method.alpha.item(), "beta": method.beta.item()}, rel=1e-5)
    assert log.selected_on == "few-shot validation, 12 images"
    assert not torch.equal(method.keys, start)
    assert not method.keys[1, 1:].any()  # a class of one image
    best = max(range(3), key=lambda epoch: (log.accuracy[epoch], epoch))
    kept = snapshots[best].tensors
    assert any(torch.equal(method.keys, value) for name, value in kept.items() if name.endswith("keys"))
    fit(Classifier(deep, again, NAMES), samples, recipe, seed=1, resume=snapshots[0])
    torch.testing.assert_close(again.state_dict(), method.state_dict(), rtol=0, atol=0)


def test_other_names_are_refused_by_caches(deep: Backbone) -> None:
    for name in CACHES:
        with pytest.raises(UsageError, match="others have none: 'violin'"):
            Classifier(deep, fitted(name, deep), ["violin", "dog"], trained_names=NAMES)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("tip-adapter", {"grid": (200, 0)}, "nothing to search"),
        ("tip-adapter-f", {"highest": (7.0, 0.1)}, "highest must be above 0.1"),
        ("ape", {"grid": (0, 20, 20)}, "nothing to search"),
        ("ape", {"highest": (7.0, 7.0, -1.0)}, "highest of gamma must be above 0"),
        ("ape", {"channels": 0.0}, "channels is a share"),
        ("gda", {"alphas": ()}, "alphas is empty"),
        ("gda", {"nearest": 1}, "nearest must be at least 2"),
    ],
)
def test_settings_that_make_no_sense(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(name, None, settings)


def test_too_few_images_or_classes(deep: Backbone) -> None:
    method = fitted("gda", deep)
    with pytest.raises(UsageError, match=r"GDA needs 1 view\(s\) of each class; one has 0"):
        method.fit(bank(deep, method, labels=SHOTS.clamp(max=2)))
    own = fitted("gda", deep, covariance="mean")
    one_view = dataclasses.replace(bank(deep, own), fimg=features(deep, SHOTS, 1, 4))
    with pytest.raises(UsageError, match=r"GDA needs 2 view\(s\) of each class; one has 1"):
        own.fit(one_view)
    ape: Any = build("ape", resolve("ape").config, deep, template=TEMPLATE, n_classes=1, seed=0)
    with pytest.raises(UsageError, match="at least two"):
        ape.double().fit(bank(deep, ape, NAMES[:1], torch.zeros_like(SHOTS)))


def test_an_ensemble_of_templates_is_normalised_before_and_after(deep: Backbone) -> None:
    method = fitted("tip-adapter", deep, alpha=0.0, templates=("itap of a {}.", "dataset"))
    expected = SCALE * images(deep) @ torch.stack(weights(deep, NAMES, ("itap of a {}.", TEMPLATE))).T
    torch.testing.assert_close(
        Classifier(deep, method, NAMES).predict(images(deep)), expected, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", [*CACHES, "gda"])
def test_released_values(name: str) -> None:
    recipe = resolve(name).recipe
    assert recipe is not None
    assert (recipe.views, recipe.crop, recipe.augmentation) == (10, 0.5, "crop")
    assert recipe.learns == (METHODS.get(name).facts.training == "steps")
    assert resolve(name).config.selects_on == "few-shot validation"
    assert resolve(name).on("imagenet").config.templates == ("select7",)
    assert resolve(name).on("imagenet").config.selects_on == "few-shot validation"
    released = resolve(name, f"{name}-released")
    assert released.on("imagenet").config.selects_on == "test"
    assert released.on("imagenet").config.templates == ("select7",)
    usual = "test" if name == "tip-adapter-f" else "full validation"
    assert released.config.selects_on == released.on("dtd").config.selects_on == usual


def test_released_values_of_single_datasets() -> None:
    tuned = resolve("tip-adapter-f", "tip-adapter-f-released")
    recipe, on_eurosat = tuned.recipe, tuned.on("eurosat")
    assert recipe is not None
    assert on_eurosat.recipe is not None
    assert (recipe.optimizer, recipe.lr, recipe.eps, recipe.weight_decay) == ("adamw", 1e-3, 1e-4, 0.01)
    assert (recipe.batch_size, recipe.epochs, recipe.schedule, recipe.keep) == (256, 20, "step", "best")
    assert recipe.lr_at_step(0, 10) == 1e-3
    assert on_eurosat.recipe.epochs == 100
    assert (on_eurosat.config.alpha, on_eurosat.config.highest) == (2.0, (12.0, 10.0))
    flowers = resolve("tip-adapter").on("oxford_flowers").config
    assert (flowers.alpha, flowers.beta, flowers.highest, flowers.grid) == (
        10.0,
        1.0,
        (50.0, 50.0),
        (200, 20),
    )
    pets = resolve("tip-adapter").on("oxford_pets").config
    assert (pets.alpha, pets.highest) == (1.17, (7.0, 3.0))
    aircraft = resolve("ape").on("fgvc_aircraft").config
    assert (aircraft.channels, aircraft.similarity) == (800 / 1024, 0.1)
    assert (aircraft.alpha, aircraft.highest) == (5.0, (20.0, 10.0, 1.0))
    assert resolve("ape").on("imagenet").config.grid == (200, 20, 5)
    assert resolve("gda", "gda-base-to-new").config.covariance == "mean"
    assert resolve("gda").config.alphas == (1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100)
