"""References of the methods that read sentences or search for words, and what is theirs alone; in fp64."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocoop import Backbone
from cocoop.errors import UsageError
from cocoop.methods import build
from cocoop.methods._facts import Selection
from cocoop.methods._parts import whole_words
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import resolve
from cocoop.text.prompt import Prompt
from cocoop.text.reference import ReferenceEncoder
from cocoop.training.checkpoint import Snapshot
from cocoop.training.classifier import Classifier
from cocoop.training.loop import Epoch, fit
from cocoop.training.samples import Samples, Validation
from cocoop.training.step import backward, losses
from tests.described import about, described
from tests.methods.banks import LABELS, NAMES, SCALE, TEMPLATE


def made(name: str, clip: Backbone, seed: int = 0, **settings: Any) -> Any:
    """An untrained method in fp64."""
    config = described(dataclasses.replace(resolve(name).config, **settings), NAMES)
    return build(name, config, clip, template=TEMPLATE, n_classes=len(NAMES), seed=seed).double()


def images(clip: Backbone, count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return F.normalize(torch.randn(count, clip.embed_dim, generator=generator).double(), dim=1)


def unit(clip: Backbone, texts: Sequence[str]) -> Tensor:
    """Normalised features of texts, by open_clip."""
    rows = [clip.tokenize(text) for text in texts]
    padded = torch.tensor([row + [0] * (clip.context_length - len(row)) for row in rows])
    features = clip.model.encode_text(padded)
    return features / features.norm(dim=1, keepdim=True)


def of_dclip(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    columns = []
    for texts in about(NAMES).values():
        columns.append(sum(SCALE * zimg @ feature for feature in unit(clip, texts)) / len(texts))
    return torch.stack(columns, dim=1), {}


def of_cupl(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    columns = []
    for texts in about(NAMES).values():
        mean = sum(unit(clip, texts)) / len(texts)
        columns.append(SCALE * zimg @ mean / mean.norm())
    return torch.stack(columns, dim=1), {}


def of_waffleclip(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    columns = []
    for name in NAMES:
        texts = []
        for descriptor in method.descriptors(NAMES):
            verb = "is" if descriptor[0] == "a" or descriptor[:4] == "used" else "has"
            verb = "" if descriptor[:3] in ("has", "may", "can") else f"{verb} "
            texts.append(f"a photo of a {name}, which {verb}{descriptor}.")
        columns.append((SCALE * zimg @ unit(clip, texts).T).sum(1) / len(texts))
    return torch.stack(columns, dim=1), {}


def of_protext(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    rows = torch.cat([method.ctx, *method.deeper])
    ztxt = ReferenceEncoder(clip, Prompt("a photo of a {}.", 4), NAMES)(rows[None, None])[0]
    squares = [(ztxt[label] - z).pow(2).sum() for label, z in zip(LABELS.tolist(), zimg, strict=True)]
    return SCALE * zimg @ ztxt.T, {"distance": 1000 * sum(squares) / zimg.numel()}


def of_autoprompt(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    ztxt = ReferenceEncoder(clip, Prompt("a photo of a {}.", 4), NAMES)(method.ctx[None, None])[0]
    logits = SCALE * zimg @ ztxt.T
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


REFERENCES = {
    "dclip": of_dclip,
    "cupl": of_cupl,
    "waffleclip": of_waffleclip,
    "protext": of_protext,
    "autoprompt": of_autoprompt,
}


@pytest.mark.parametrize("name", ["dclip", "cupl"])
def test_the_template_as_the_only_sentence_is_zero_shot(
    name: str, deep: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = made(name, deep)
    zero = Classifier(deep, made("zeroshot", deep), NAMES).predict(images(deep))
    assert not torch.allclose(Classifier(deep, method, NAMES).predict(images(deep)), zero)
    sentences = [[TEMPLATE.replace("{}", each)] for each in NAMES]
    monkeypatch.setattr(f"cocoop.methods.{name}.read_sentences", lambda *_: sentences)
    ours = Classifier(deep, method, NAMES).predict(images(deep))
    torch.testing.assert_close(ours, zero, rtol=1e-9, atol=1e-9)


def test_templates_among_the_sentences_count_as_one_each(deep: Backbone) -> None:
    method = made("cupl", deep, templates=("dataset", "art of the {}."))
    columns = []
    for name, texts in about(NAMES).items():
        filled = [f"a type of pet, a photo of a {name}.", f"art of the {name}."]
        mean = unit(deep, [*filled, *texts]).mean(0)
        columns.append(SCALE * images(deep) @ mean / mean.norm())
    ours = Classifier(deep, method, NAMES).predict(images(deep))
    torch.testing.assert_close(ours, torch.stack(columns, dim=1), rtol=1e-9, atol=1e-9)


def test_descriptors_are_joined_as_released(deep: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [["a red comb", "wings", "often fluffy", "used for eggs", "has a beak", "amber eyes"]]
    monkeypatch.setattr("cocoop.methods.dclip.read_sentences", lambda *_: given)
    assert made("dclip", deep, descriptors=True).sentences(["guinea_fowl"])["own"][0] == [
        "guinea fowl, which is a red comb",
        "guinea fowl, which has wings",
        "guinea fowl, which often fluffy",
        "guinea fowl, which is used for eggs",
        "guinea fowl, which has a beak",
        "guinea fowl, which is amber eyes",
    ]


def test_random_descriptors_are_those_of_all_classes_and_of_the_seed(deep: Backbone) -> None:
    method = made("waffleclip", deep, seed=3)
    texts = method.sentences(NAMES)["own"]
    without = {
        tuple(text.removeprefix(f"a photo of a {name}, which ") for text in each)
        for name, each in zip(NAMES, texts, strict=True)
    }
    assert len(without) == 1
    assert {len(each) for each in texts} == {30}
    assert len(set(texts[0])) == 30
    assert made("waffleclip", deep, seed=3).sentences(NAMES)["own"] == texts
    assert made("waffleclip", deep, seed=4).sentences(NAMES)["own"] != texts
    assert made("waffleclip", deep, seed=3, pairs=2).sentences(NAMES)["own"] == [each[:4] for each in texts]


@pytest.mark.parametrize(
    ("names", "words", "length", "groups", "size"),
    [
        (["dog", "cat"], 1, 3, 1, 4),  # three letters, rounded up to the next
        (["red apple", "green tea", "dog", "dog house"], 2, 4, 2, 3),  # 1.75 words of 3.75; 4.5 letters
        (["abcdefgh ab_c"], 3, 4, 3, 3),  # eight letters in three groups
    ],
)
def test_random_descriptors_are_as_long_as_names(
    names: list[str], words: int, length: int, groups: int, size: int, deep: Backbone
) -> None:
    found = made("waffleclip", deep).descriptors(names)
    assert {len(text.split(" ")) for text in found[::2]} == {words}
    assert max(len(word) for text in found[::2] for word in text.split(" ")) == length
    assert {len(text.split(", ")) for text in found[1::2]} == {groups}
    assert {len(part) for text in found[1::2] for part in text.split(", ")} == {size}


def test_an_epoch_over_sentences_has_the_sum_of_their_gradients(deep: Backbone) -> None:
    """Of all sentences at once, as an epoch at fixed weights: one naive term for each sentence."""
    method = made("protext", deep)
    classifier = Classifier(deep, method, NAMES)
    targets = classifier.sentences["targets"]
    terms = losses(classifier, targets.features, targets.labels)
    ours = torch.autograd.grad(terms["distance"], list(method.parameters()))
    total = [torch.zeros_like(parameter) for parameter in method.parameters()]
    texts = [(name, text) for name, each in about(NAMES).items() for text in each]
    rows = torch.cat([method.ctx, *method.deeper])
    for name, text in texts:
        student = ReferenceEncoder(deep, Prompt("a photo of a {}.", 4), [name])(rows[None, None])[0, 0]
        loss = 1000 * F.mse_loss(student, unit(deep, [text])[0])
        each = torch.autograd.grad(loss, list(method.parameters()), retain_graph=True)
        total = [sums + part / len(texts) for sums, part in zip(total, each, strict=True)]
    torch.testing.assert_close(ours, tuple(total), rtol=1e-9, atol=1e-9)


def test_steps_are_over_batches_of_sentences(deep: Backbone) -> None:
    """Seven sentences in batches of three: two steps an epoch, the last one dropped; images play no part."""

    def views(epoch: int) -> Tensor:
        raise AssertionError("no image is needed")

    method = made("protext", deep)
    classifier = Classifier(deep, method, NAMES)
    assert len(classifier.sentences["targets"].labels) == 7
    log = fit(classifier, Samples(views, torch.empty(0).long()), Recipe(epochs=4, batch_size=3, lr=0.01), 1)
    assert (len(log.loss), len(log.lr), log.selected_on) == (8, 4, "")
    assert log.loss[-1] < log.loss[0]
    assert not method.training
    others = Classifier(deep, method, ["violin", "moon"])  # of which the file has no sentences
    assert others.predict(images(deep)).shape == (5, 2)


def test_the_first_step_is_that_of_the_batch(deep: Backbone) -> None:
    method, again = made("protext", deep), made("protext", deep)
    classifier = Classifier(deep, method, NAMES)
    targets = classifier.sentences["targets"]
    samples = Samples(lambda epoch: torch.empty(0, 16), torch.empty(0).long())
    recipe = Recipe(epochs=1, batch_size=0, warmup_epochs=0, lr=0.01, momentum=0.0, weight_decay=0.0)
    fit(classifier, samples, recipe, seed=1)
    backward(again, losses(Classifier(deep, again, NAMES), targets.features, targets.labels), 1.0)
    for ours, start in zip(method.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), start.detach() - 0.01 * start.grad, rtol=1e-9, atol=1e-12)


def test_scores_are_the_change_of_the_loss_to_first_order(deep: Backbone) -> None:
    method = made("autoprompt", deep)
    classifier = Classifier(deep, method, NAMES)
    place, step = 2, 1e-5
    backward(method, losses(classifier, images(deep), LABELS), 1.0)
    words = list(method.words)
    scores = method.scores(place)
    now = scores[words.index(int(method.tokens[place]))]
    start = method.ctx.detach().clone()
    for index in (5, 999, 20_000):
        change = torch.zeros_like(start)
        change[place] = deep.token_embedding[words[index]] - start[place]
        values = []
        for sign in (1, -1):
            method.ctx.data = start + sign * step * change
            values.append(losses(classifier, images(deep), LABELS)["cross-entropy"].item())
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(float(now - scores[index]), rel=1e-5)
        assert slope != pytest.approx(0, abs=1e-3)


def test_a_step_takes_the_best_of_the_candidates(deep: Backbone) -> None:
    """By hand: the words of the highest scores at the place that changed, each tried out."""
    method, before = made("autoprompt", deep, candidates=4), made("autoprompt", deep, candidates=4)
    classifier = Classifier(deep, method, NAMES)

    def value(tokens: Tensor) -> float:
        ctx = deep.token_embedding[tokens][None, None]
        ztxt = ReferenceEncoder(deep, Prompt("a photo of a {}.", 4), NAMES)(ctx)[0]
        return F.cross_entropy(SCALE * images(deep) @ ztxt.T, LABELS).item()

    backward(method, losses(classifier, images(deep), LABELS), 1.0)
    method.search(lambda: losses(classifier, images(deep), LABELS)["cross-entropy"].item())
    (place,) = (method.tokens != before.tokens).nonzero()[:, 0].tolist()
    scores = -(deep.token_embedding @ method.ctx.grad[place])
    scores[~torch.isin(torch.arange(len(scores)), torch.tensor(list(whole_words(deep))))] = -torch.inf
    tries = {
        token: value(before.tokens.clone().index_fill(0, torch.tensor(place), token))
        for token in scores.topk(4).indices.tolist()
    }
    assert min(tries.values()) < value(before.tokens)
    assert int(method.tokens[place]) == min(tries, key=tries.__getitem__)
    assert torch.equal(method.ctx.detach(), deep.token_embedding[method.tokens])


def test_words_stay_where_no_candidate_is_better(deep: Backbone) -> None:
    method = made("autoprompt", deep)
    backward(method, losses(Classifier(deep, method, NAMES), images(deep), LABELS), 1.0)
    before = method.tokens.clone()
    method.search(lambda: 1.0)
    assert torch.equal(method.tokens, before)
    assert torch.equal(method.ctx.detach(), deep.token_embedding[before])


def test_the_words_found_are_a_template_for_zero_shot(deep: Backbone) -> None:
    def validation(selection: Selection) -> Validation:
        return images(deep), LABELS

    method = made("autoprompt", deep)
    classifier = Classifier(deep, method, NAMES)
    recipe = Recipe(steps=6, schedule="step", batch_size=0, keep="best")
    start = losses(classifier, images(deep), LABELS)["cross-entropy"].item()
    log = fit(classifier, Samples(lambda epoch: images(deep), LABELS, validation), recipe, seed=1)
    template = log.selected["template"]
    assert template != "a photo of a {}."
    assert log.loss == sorted(log.loss, reverse=True)
    assert log.loss[-1] < start
    assert log.selected_on == "few-shot validation, 5 images"
    zero = made("zeroshot", deep, templates=(template,))
    ours, theirs = (Classifier(deep, each, NAMES).predict(images(deep)) for each in (method, zero))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_an_interrupted_search_goes_on_with_the_same_words(deep: Backbone) -> None:
    recipe = Recipe(epochs=0, steps=6, schedule="step", batch_size=0)
    samples = Samples(lambda epoch: images(deep), LABELS)
    taken: list[Snapshot] = []

    def stop(epoch: Epoch) -> None:
        if epoch.done == 3:
            taken.append(epoch.snapshot())

    whole, rest = made("autoprompt", deep), made("autoprompt", deep)
    fit(Classifier(deep, whole, NAMES), samples, recipe, 1, stop)
    fit(Classifier(deep, rest, NAMES), samples, recipe, 1, resume=taken[0])
    assert torch.equal(rest.tokens, whole.tokens)
    assert torch.equal(rest.ctx, whole.ctx)


def test_every_whole_word_is_read_as_its_token(deep: Backbone) -> None:
    words = whole_words(deep)
    assert len(words) == 32_875
    assert all(deep.tokenize.words(word) == [token] for token, word in words.items())


def test_words_of_several_tokens_are_no_start(deep: Backbone) -> None:
    for words in ("a thermophotograph of a", "", "a photo, of a"):
        with pytest.raises(UsageError, match="words that are one token"):
            made("autoprompt", deep, ctx_init=words)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("autoprompt", {"candidates": 0}),
        ("waffleclip", {"pairs": 0}),
        ("waffleclip", {"start": "a photo"}),
        ("protext", {"depth": 0}),
        ("cupl", {"templates": ("no place",)}),
        ("cupl", {"sentences": ""}),
        ("dclip", {"sentences": "no-such-file.json"}),
    ],
)
def test_impossible_settings(name: str, setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(resolve(name).config, **setting)


def test_released_values() -> None:
    choice = resolve("protext")
    assert choice.recipe is not None
    recipe = choice.recipe
    assert (recipe.optimizer, recipe.batch_size, recipe.weight_decay, recipe.beta2) == (
        "adamw",
        256,
        0.1,
        0.98,
    )
    assert (recipe.warmup_epochs, recipe.warmup_lr, recipe.schedule) == (5, 1e-5, "epoch")
    assert (choice.config.depth, choice.config.weight) == (9, 1000.0)
    released = {  # vectors, learning rate, epochs
        "caltech101": (16, 0.0025, 30),
        "dtd": (4, 0.03, 200),
        "eurosat": (16, 0.0025, 30),
        "fgvc_aircraft": (4, 0.03, 200),
        "food101": (8, 0.0025, 50),
        "imagenet": (4, 0.03, 30),
        "oxford_flowers": (4, 0.0025, 150),
        "oxford_pets": (4, 0.03, 50),
        "stanford_cars": (8, 0.0025, 30),
        "sun397": (8, 0.03, 30),
        "ucf101": (16, 0.03, 30),
    }
    for dataset, values in released.items():
        on = choice.on(dataset)
        assert (on.config.n_ctx, on.recipe.lr, on.recipe.epochs) == values, dataset
        assert (on.config.ctx_init is None) == (on.config.n_ctx > 4)
    assert resolve("waffleclip").config.pairs == 15
    assert resolve("autoprompt").config.candidates == 10
    search = resolve("autoprompt").recipe
    assert (search.steps, search.batch_size, search.keep) == (100, 320, "best")
