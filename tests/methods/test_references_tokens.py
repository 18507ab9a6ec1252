"""Tokens added to both towers, to read or from later blocks on: by open_clip's modules, in fp64."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocoop import Backbone, UsageError
from cocoop.methods._settings import resolve
from cocoop.text.prompt import Prompt
from cocoop.training.classifier import Classifier
from cocoop.training.step import losses
from tests.conftest import make_tower
from tests.methods.banks import LABELS, NAMES, SCALE, TEMPLATE, built, features, states
from tests.text.test_added import by_hand, by_mask

Terms = dict[str, Tensor]


def unit(rows: Tensor) -> Tensor:
    return rows / rows.pow(2).sum(-1, keepdim=True).sqrt()


def entrance(visual: Any, pixels: Tensor) -> Tensor:
    """The class token and the patches with their positions."""
    patches = visual.conv1(pixels).flatten(2).mT
    token = visual.class_embedding.expand(len(patches), 1, -1)
    return torch.cat([token, patches], dim=1) + visual.positional_embedding


def of_rpo(method: Any, clip: Backbone, cfg: Any, pixels: Tensor) -> tuple[Tensor, Terms]:
    visual: Any = clip.model.visual
    sentence = TEMPLATE if cfg.sentence == "dataset" else cfg.sentence
    vectors = method.text_prompts[:, None, None]
    texts = by_mask(clip, Prompt(sentence, 1, read_only=True), NAMES, vectors)
    x = entrance(visual, pixels)
    tokens, pairs = x.shape[1], cfg.n_prompts
    x = torch.cat([x, method.image_prompts.expand(len(x), -1, -1)], dim=1)
    mask = torch.zeros(tokens + pairs, tokens + pairs).double()
    mask[:, tokens:] = -torch.inf
    x = visual.transformer(visual.ln_pre(x), attn_mask=mask)
    logits = torch.zeros(len(x), len(NAMES)).double()
    for pair in range(pairs):
        image = visual.ln_post(x[:, tokens + pair]) @ visual.proj
        logits = logits + SCALE * unit(image) @ texts[pair].T
    logits = logits / pairs
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


def through(blocks: Any, x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


def mapped(tokens: Tensor, layers: Any) -> list[Tensor]:
    return [tokens @ each.weight.T + each.bias for each in layers]


def of_mmrl(method: Any, clip: Backbone, cfg: Any, given: Tensor) -> tuple[Tensor, Terms]:
    """From pixels, or from what they are at the method's cut."""
    visual: Any = clip.model.visual
    first, count = min(cfg.first, len(clip.vision.blocks) - 1), cfg.tokens
    last = min(cfg.last, len(clip.text.blocks) - 1)
    prompt = Prompt(TEMPLATE, count, inserted=first, deeper=tuple(range(first + 1, last + 1)))
    texts = by_hand(clip, prompt, NAMES, torch.cat(mapped(method.tokens, method.to_text))[None, None])[0]
    x, blocks = given, visual.transformer.resblocks
    if given.dim() == 4:
        x = through(blocks[:first], visual.ln_pre(entrance(visual, given)))
    before = unit(visual.ln_post(through(blocks[first:], x)[:, 0]) @ visual.proj).detach()
    tokens = mapped(method.tokens, method.to_vision)
    for number, block in enumerate(blocks[first:], first):
        if tokens:  # behind the class token, as released
            rest = x[:, 1:] if number == first else x[:, 1 + count :]
            x = torch.cat([x[:, :1], tokens.pop(0).expand(len(x), -1, -1), rest], dim=1)
        x = block(x)
    x = visual.ln_post(x)
    image, own = unit(x[:, 0] @ visual.proj), unit(x[:, 1 : 1 + count].mean(1) @ method.projection)
    rows = [clip.tokenize(TEMPLATE.replace("{}", name)) for name in NAMES]
    padded = torch.tensor([row + [0] * (clip.context_length - len(row)) for row in rows])
    frozen = unit(clip.model.encode_text(padded))  # type: ignore[operator]
    main, other = SCALE * image @ texts.T, SCALE * own @ texts.T
    return cfg.share * main + (1 - cfg.share) * other, {
        "cross-entropy": cfg.share * F.cross_entropy(main, LABELS),
        "representation": (1 - cfg.share) * F.cross_entropy(other, LABELS),
        "image": cfg.weight * (1 - (image * before).sum(1).mean()),
        "text": cfg.weight * (1 - (texts * frozen).sum(1).mean()),
    }


REFERENCES = {"rpo": of_rpo, "mmrl": of_mmrl}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rpo", {"n_prompts": 1}),
        ("rpo", {"n_prompts": 3, "sentence": "dataset"}),
        ("mmrl", {"first": 1, "weight": 3.0}),
        ("mmrl", {"first": 1, "last": 1, "tokens": 1, "dim": 7}),
        ("mmrl", {"first": 1, "last": 2, "share": 0.2}),
    ],
)
def test_other_settings(name: str, settings: dict[str, Any], deep: Backbone) -> None:
    method, cfg = built(name, deep, **settings), resolve(name, None, settings).config
    classifier, zimg = Classifier(deep, method, NAMES), states(method, deep)
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    expected, terms = REFERENCES[name](method, deep, cfg, pixels)
    torch.testing.assert_close(classifier(zimg), expected, rtol=1e-9, atol=1e-9)
    ours = losses(classifier, zimg, LABELS)
    torch.testing.assert_close(ours, terms, rtol=1e-9, atol=1e-12)
    each = [torch.autograd.grad(sum(t.values()), list(method.parameters())) for t in (ours, terms)]  # type: ignore[arg-type]
    torch.testing.assert_close(each[0], each[1], rtol=1e-9, atol=1e-9)


def test_names_keep_their_underscores(deep: Backbone) -> None:
    method, names = built("rpo", deep, n_prompts=2), ["red_apple", "dog"]
    ours = Classifier(deep, method, names).encode(method(torch.empty(1, 16)))
    assert ours.shape == (2, 2, 16)
    sentence = Prompt("a photo of a {}.", 1, read_only=True)
    expected = by_mask(deep, sentence, names, method.text_prompts[:, None, None])
    torch.testing.assert_close(unit(ours), expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(ours[:, 0], Classifier(deep, method, ["red apple"]).encode(
        method(torch.empty(1, 16)))[:, 0])  # fmt: skip


def test_read_only_prompts_start_near_the_tokens_that_are_read(deep: Backbone) -> None:
    method, other = built("rpo", deep), built("rpo", deep, seed=1)
    for ours, theirs, token in (
        (method.text_prompts, other.text_prompts, deep.token_embedding[49407]),
        (method.image_prompts, other.image_prompts, deep.model.visual.class_embedding),  # type: ignore[union-attr]
    ):
        away = (ours - token).norm(dim=1)
        torch.testing.assert_close(away, torch.full_like(away, 0.1), rtol=1e-4, atol=0)
        assert len(ours) == 24
        assert not torch.allclose(ours, theirs)


def test_pairs_do_not_see_each_other(deep: Backbone) -> None:
    method = built("rpo", deep, n_prompts=3)
    classifier, pixels = Classifier(deep, method, NAMES), states(method, deep)
    whole, each = classifier(pixels), []
    for pair in range(3):
        alone = built("rpo", deep, n_prompts=1)
        for name, value in method.named_parameters():
            getattr(alone, name).data = value.detach()[pair : pair + 1]
        each.append(Classifier(deep, alone, NAMES)(pixels))
    torch.testing.assert_close(whole, torch.stack(each).mean(0), rtol=1e-9, atol=1e-9)


def test_what_stands_for_the_image_is_the_mean_of_its_pairs(deep: Backbone) -> None:
    method = built("rpo", deep, n_prompts=3)
    classifier = Classifier(deep, method, NAMES)
    seen = classifier.see(states(method, deep))
    out = classifier.pair(seen, classifier.encode(classifier.contexts(seen)))
    image, text = unit(unit(out.others).mean(1)), unit(out.ztxt.mean(0))
    torch.testing.assert_close(classifier.cosine(out), image @ text.T)


def test_kinds_of_logits_are_fused_among_the_trained_names_alone(deep: Backbone) -> None:
    method = built("mmrl", deep)
    cfg, zimg = resolve("mmrl").config, states(method, deep)
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    fused, _ = of_mmrl(method, deep, cfg, pixels)
    main, _ = of_mmrl(method, deep, dataclasses.replace(cfg, share=1.0), pixels)

    def answers(names: list[str]) -> Tensor:
        classifier = Classifier(deep, method, names, trained_names=NAMES)
        return classifier.predict(features(classifier, zimg))

    torch.testing.assert_close(answers(NAMES), fused.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(answers(NAMES[2:]), fused[:, 2:].detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(answers([*NAMES, "violin"])[:, :4], main.detach(), rtol=1e-9, atol=1e-9)
    method.fused = False
    torch.testing.assert_close(answers(NAMES), main.detach(), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(fused, main)


def test_without_a_weight_nothing_holds_to_the_frozen_features(deep: Backbone) -> None:
    method = built("mmrl", deep, weight=0.0)
    terms = losses(Classifier(deep, method, NAMES), states(method, deep), LABELS)
    assert terms["image"] == terms["text"] == 0


def test_layers_of_a_tower_start_alike(deep: Backbone) -> None:
    method = built("mmrl", deep, first=1)
    assert (len(method.to_vision), len(method.to_text), method.cut) == (2, 3, 1)
    for layers in (method.to_vision, method.to_text):
        assert all(torch.equal(each.weight, layers[0].weight) for each in layers)
    assert not torch.equal(method.tokens, built("mmrl", deep, seed=1).tokens)


def test_a_cached_cut_has_the_gradients_of_pixels(deep: Backbone) -> None:
    method = built("mmrl", deep)

    def gradients() -> tuple[Tensor, ...]:
        terms = losses(Classifier(deep, method, NAMES), states(method, deep), LABELS)
        return torch.autograd.grad(sum(terms.values()), list(method.parameters()))  # type: ignore[arg-type]

    cached, method.cut = gradients(), "pixels"
    torch.testing.assert_close(cached, gradients(), rtol=1e-9, atol=1e-9)


def test_values_of_the_released_code() -> None:
    for preset, values in {
        "rpo-released": ("sgd", 0.01, 4, 15, 1, 0.08),
        "rpo-imagenet": ("sgd", 0.005, 4, 15, 1, 0.08),
        "mmrl-released": ("adamw", 1e-3, 4, 10, 1, 0.5),
        "mmrl-few-shot": ("adamw", 1e-3, 32, 50, 1, 0.5),
        "mmrl-cross-dataset": ("adamw", 1e-3, 32, 1, 0, 0.5),
    }.items():
        recipe = resolve(preset.partition("-")[0], preset).recipe
        assert recipe is not None
        ours = (
            recipe.optimizer,
            recipe.lr,
            recipe.batch_size,
            recipe.epochs,
            recipe.warmup_epochs,
            recipe.crop,
        )
        assert ours == values
    on_imagenet, on_eurosat = (resolve("mmrl", "mmrl-few-shot").on(name) for name in ("imagenet", "eurosat"))
    assert on_imagenet.recipe is not None
    assert (on_imagenet.recipe.epochs, on_imagenet.recipe.batch_size, on_imagenet.config.weight) == (
        5,
        32,
        0.5,
    )
    assert (on_eurosat.config.dim, on_eurosat.config.weight) == (2048, 0.01)
    assert resolve("mmrl", "mmrl-cross-dataset").on("imagenet").config.weight == 0.2


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("rpo", {"n_prompts": 0}, "n_prompts must be at least 1, not 0"),
        ("mmrl", {"tokens": 0}, "tokens and dim must be at least 1, not 0 and 512"),
        ("mmrl", {"first": 0}, "first must be from 1 to last, not 0 with last 11"),
        ("mmrl", {"first": 3, "last": 2}, "first must be from 1 to last, not 3 with last 2"),
        ("mmrl", {"share": 1.1}, "share must be from 0 to 1"),
        ("mmrl", {"weight": -1.0}, "weight must be a number from 0 on"),
    ],
)
def test_settings_that_make_no_sense(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(name, None, settings)


def test_towers_that_they_cannot_learn_in() -> None:
    for name in ("rpo", "mmrl"):
        with pytest.raises(
            UsageError, match="nothing can be learned inside the image tower of clip-quickgelu"
        ):
            built(name, make_tower("clip-quickgelu"))
    with pytest.raises(
        UsageError, match="MMRL needs towers of two blocks; custom-text has one with a single"
    ):
        built("mmrl", make_tower("custom-text"))
