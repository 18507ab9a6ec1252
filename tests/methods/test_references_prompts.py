"""Deep prompts of both towers are their formulas: open_clip's modules with the vectors put in, in fp64."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop import Backbone, UsageError
from cocoop.methods import build
from cocoop.methods._settings import resolve
from cocoop.training.classifier import Classifier
from cocoop.training.keep import Kept
from cocoop.training.step import losses
from cocoop.utils.seeding import seeded
from tests.conftest import make_tower
from tests.described import described
from tests.methods.banks import LABELS, NAMES, SCALE, TEMPLATE, built, features, states

Terms = dict[str, Tensor]


def unit(rows: Tensor) -> Tensor:
    return rows / rows.pow(2).sum(-1, keepdim=True).sqrt()


def of_texts(clip: Backbone, sets: Sequence[Tensor] = (), template: str = "a photo of a {}.") -> Tensor:
    """Raw text features of the class names, a set of vectors standing in place of words before each block."""
    text, rows = clip.text_tower, []
    for name in NAMES:
        x = clip.token_embedding[clip.tokenize(template.replace("{}", name))]
        if len(sets):
            x = torch.cat([x[:1], sets[0], x[1 + len(sets[0]) :]])
        x = (x + text.positional_embedding[: len(x)])[None]
        mask = text.attn_mask[: x.shape[1], : x.shape[1]]
        for number, block in enumerate(text.transformer.resblocks):
            if 0 < number < len(sets):
                x = torch.cat([x[:, :1], sets[number][None], x[:, 1 + len(sets[number]) :]], dim=1)
            x = block(x, attn_mask=mask)
        rows.append(text.ln_final(x)[0, -1] @ text.text_projection)
    return torch.stack(rows)


def of_pixels(clip: Backbone, pixels: Tensor, sets: Sequence[Tensor] = ()) -> Tensor:
    """Raw image features by open_clip's forward, in which hooks put a set of vectors before each block."""
    visual: Any = clip.model.visual

    def put(number: int) -> Callable[..., tuple[Any, ...]]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            rest = args[0][:, : visual.positional_embedding.shape[0]]
            return (torch.cat([rest, sets[number].expand(len(rest), -1, -1)], dim=1), *args[1:])

        return hook

    places = [visual.ln_pre, *visual.transformer.resblocks[1 : len(sets)]]
    handles = [
        place.register_forward_pre_hook(put(number)) for number, place in enumerate(places[: len(sets)])
    ]
    try:
        features: Tensor = clip.model.encode_image(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return features


def compared(fimg: Tensor, ftxt: Tensor) -> tuple[Tensor, Terms]:
    logits = SCALE * unit(fimg) @ unit(ftxt).T
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


def of_vpt(method: Any, clip: Backbone, cfg: Any, pixels: Tensor) -> tuple[Tensor, Terms]:
    return compared(of_pixels(clip, pixels, method.image_ctx), of_texts(clip))


def of_ivlp(method: Any, clip: Backbone, cfg: Any, pixels: Tensor) -> tuple[Tensor, Terms]:
    return compared(of_pixels(clip, pixels, method.image_ctx), of_texts(clip, method.ctx))


def coupled(method: Any) -> list[Tensor]:
    return [
        vectors @ each.weight.T + each.bias
        for each, vectors in zip(method.couplings, method.ctx, strict=True)
    ]


def of_maple(method: Any, clip: Backbone, cfg: Any, pixels: Tensor) -> tuple[Tensor, Terms]:
    return compared(of_pixels(clip, pixels, coupled(method)), of_texts(clip, method.ctx))


def of_promptsrc(method: Any, clip: Backbone, cfg: Any, pixels: Tensor) -> tuple[Tensor, Terms]:
    logits, terms = of_ivlp(method.base, clip, cfg, pixels)
    each = [of_texts(clip, (), template) for template in method.texts["teacher"]]
    assert len(each) == 60
    teacher, frozen = unit(sum(each) / len(each)), unit(of_pixels(clip, pixels)).detach()
    ztxt, zimg = unit(of_texts(clip, method.base.ctx)), unit(of_pixels(clip, pixels, method.base.image_ctx))
    target, ours = (SCALE * frozen @ teacher.T).softmax(1), logits.softmax(1)
    return logits, terms | {
        "text": 25 * (ztxt - teacher).abs().mean(),
        "image": 10 * (zimg - frozen).abs().mean(),
        "logits": (target * (target.log() - ours.log())).sum() / logits.numel(),
    }


def about(clip: Backbone, source: str) -> list[Tensor]:
    """Raw features of the sentences about every class, by open_clip."""
    given = json.loads(Path(source.partition("#")[0]).read_text())
    return [torch.cat([of_texts(clip, (), text)[:1] for text in given[name]]) for name in NAMES]


def adapted(adapter: Any, ratio: float, features: Tensor) -> Tensor:
    inner = (features @ adapter.down.weight.T).clamp(min=0)
    return unit(ratio * (inner @ adapter.up.weight.T).clamp(min=0) + (1 - ratio) * features)


def of_coprompt(method: Any, clip: Backbone, cfg: Any, pairs: Tensor) -> tuple[Tensor, Terms]:
    ours, other = pairs[:, 0], pairs[:, 1]
    image = adapted(method.adapt_image, 0.1, of_pixels(clip, ours, coupled(method.base)))
    text = adapted(method.adapt_text, 0.2, of_texts(clip, method.base.ctx))
    sentences = about(clip, cfg.sentences)
    number = int(float(torch.rand(())) * max(map(len, sentences)))
    teacher = unit(torch.stack([each[number % len(each)] for each in sentences])).detach()
    frozen = unit(of_pixels(clip, other)).detach()
    logits = SCALE * image @ text.T
    return logits, {
        "cross-entropy": F.cross_entropy(logits, LABELS),
        "text": cfg.weight * (1 - (text * teacher).sum(1).mean()),
        "image": cfg.weight * (1 - (image * frozen).sum(1).mean()),
    }


REFERENCES: dict[str, Callable[[Any, Backbone, Any, Tensor], tuple[Tensor, Terms]]] = {
    "vpt": of_vpt,
    "ivlp": of_ivlp,
    "maple": of_maple,
    "promptsrc": of_promptsrc,
    "coprompt": of_coprompt,
}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vpt", {"depth": 1}),
        ("vpt", {"depth": 2, "n_ctx": 1}),
        ("ivlp", {"depth": 1, "depth_image": 2, "n_ctx": 3, "n_ctx_image": 5}),
        ("ivlp", {"ctx_init": None, "n_ctx": 2, "depth": 3}),
        ("maple", {"depth": 1}),
        ("maple", {"depth": 2, "n_ctx": 4}),
    ],
)
def test_other_lengths_and_depths(name: str, settings: dict[str, Any], deep: Backbone) -> None:
    method, pixels = built(name, deep, **settings), states(built("vpt", deep), deep)
    prompted = of_texts(deep, method.ctx, "X X {}.") if settings.get("ctx_init", "") is None else None
    expected, _ = REFERENCES[name](method, deep, None, pixels)
    if prompted is not None:
        expected, _ = compared(of_pixels(deep, pixels, method.image_ctx), prompted)
    answers = Classifier(deep, method, NAMES).predict(features(Classifier(deep, method, NAMES), pixels))
    torch.testing.assert_close(answers, expected.detach(), rtol=1e-9, atol=1e-9)


def test_depth_is_cut_to_the_towers(deep: Backbone) -> None:
    assert len(built("vpt", deep).image_ctx) == 3  # blocks of the image tower
    method = built("ivlp", deep)
    assert (len(method.ctx), len(method.image_ctx)) == (4, 3)
    method = built("maple", deep)
    assert (len(method.ctx), len(method.couplings)) == (3, 3)


def test_vectors_start_from_words_and_are_random_behind_them(deep: Backbone) -> None:
    words = deep.embed_words("a photo of a")
    for name in ("ivlp", "maple"):
        method = built(name, deep)
        torch.testing.assert_close(method.ctx[0].detach(), words[:2].double())
        assert method.prompts[0].template == "a photo of a {}."
        assert 0.01 < method.ctx[1:].std() < 0.03
    ivlp = built("ivlp", deep, ctx_init=None, n_ctx=16, n_ctx_image=16)
    sets = [*ivlp.ctx.flatten(1), *ivlp.image_ctx.flatten(1)]
    assert len({tuple(each[:8].tolist()) for each in sets}) == len(sets), "none are the same numbers"
    text = built("deep-language", deep, ctx_init=None, n_ctx=2)
    assert not torch.equal(text.ctx, text.deeper[0])
    first, second, third = built("maple", deep).couplings
    assert not torch.equal(first.weight, second.weight)
    torch.testing.assert_close(second.state_dict(), third.state_dict())  # as released


def test_couplings_that_say_nothing_put_zeros_among_the_patches(deep: Backbone) -> None:
    method = built("maple", deep)
    nn.init.zeros_(method.ctx)
    for each in method.couplings:
        nn.init.zeros_(each.bias)
    pixels = states(method, deep)
    expected, _ = compared(
        of_pixels(deep, pixels, torch.zeros(3, 2, 32).double()), of_texts(deep, method.ctx)
    )
    torch.testing.assert_close(Classifier(deep, method, NAMES)(pixels), expected, rtol=1e-9, atol=1e-9)
    losses(Classifier(deep, method, NAMES), pixels, LABELS)["cross-entropy"].backward()
    assert all(each.bias.grad.abs().sum() for each in method.couplings)  # yet they learn


@pytest.mark.parametrize("name", ["vpt", "ivlp", "maple", "promptsrc", "coprompt"])
def test_settings_that_make_no_sense(name: str, deep: Backbone) -> None:
    for field in ("n_ctx", "depth"):
        with pytest.raises(UsageError, match=f"{field} must be at least 1, not 0"):
            built(name, deep, **{field: 0})
    if name != "vpt":
        with pytest.raises(UsageError, match="'a photo of a' has 4 tokens, fewer than the 5 of n_ctx"):
            built(name, deep, n_ctx=5)
    with pytest.raises(UsageError, match="nothing can be learned inside"):
        built(name, make_tower("clip-quickgelu"))


@pytest.mark.parametrize(
    ("preset", "recipe", "config"),
    [
        ("vpt-released", ("sgd", 0.0025, 4, 5), {"n_ctx": 8, "depth": 12, "prompt": "a photo of a {}."}),
        ("vpt-shallow", ("sgd", 0.0025, 4, 5), {"n_ctx": 8, "depth": 1}),
        (
            "ivlp-released",
            ("sgd", 0.0035, 4, 5),
            {"n_ctx": 2, "depth": 12, "n_ctx_image": 2, "depth_image": 12},
        ),
        (
            "ivlp-promptsrc",
            ("sgd", 0.0025, 4, 20),
            {"n_ctx": 4, "depth": 9, "n_ctx_image": 4, "depth_image": 9},
        ),
        ("maple-released", ("sgd", 0.0035, 4, 5), {"n_ctx": 2, "depth": 9, "ctx_init": "a photo of a"}),
        (
            "promptsrc-released",
            ("sgd", 0.0025, 4, 20),
            {"n_ctx": 4, "depth": 9, "n_ctx_image": 4, "depth_image": 9},
        ),
        (
            "promptsrc-few",
            ("sgd", 0.0025, 4, 50),
            {"weight_text": 25, "weight_image": 10, "weight_logits": 1},
        ),
        ("promptsrc-transfer", ("sgd", 0.0025, 4, 20), {"n_ctx": 4, "depth": 3, "depth_image": 3}),
        (
            "coprompt-released",
            ("sgd", 0.0035, 4, 8),
            {"n_ctx": 2, "depth": 9, "weight": 1, "ratio_image": 0.1},
        ),
        ("maple-transfer", ("sgd", 0.0026, 4, 2), {"n_ctx": 2, "depth": 3}),
    ],
)
def test_released_values(preset: str, recipe: tuple[Any, ...], config: dict[str, Any]) -> None:
    choice = resolve(preset.rpartition("-")[0], preset)
    assert choice.recipe is not None
    values = (choice.recipe.optimizer, choice.recipe.lr, choice.recipe.batch_size, choice.recipe.epochs)
    assert values == recipe
    assert choice.recipe.augmentation == ("randaugment" if choice.method == "coprompt" else "crop")
    assert config.items() <= vars(choice.config).items()


def test_promptsrc_without_its_terms_is_ivlp(deep: Backbone) -> None:
    method = built("promptsrc", deep, weight_text=0.0, weight_image=0.0, weight_logits=0.0)
    pixels = states(method, deep)
    ivlp = built("ivlp", deep, n_ctx=4, depth=9, n_ctx_image=4, depth_image=9)
    ivlp.load_state_dict(method.base.state_dict())
    gradients = []
    for each in (method, ivlp):
        sum(losses(Classifier(deep, each, NAMES), pixels, LABELS).values()).backward()
        gradients.append([parameter.grad for parameter in each.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    assert features(Classifier(deep, method, NAMES), pixels).shape == (5, 16)  # nothing frozen once trained
    assert not Classifier(deep, method.eval(), NAMES).text


def test_the_average_of_promptsrc_is_that_of_its_epochs(deep: Backbone) -> None:
    """By hand: weights of a Gaussian at 1 ... N that sum to 1, times the values behind each epoch."""
    method, recipe = built("promptsrc", deep), resolve("promptsrc").recipe
    assert recipe is not None
    kept = Kept(recipe)
    for epoch in range(1, 21):
        nn.init.constant_(method.base.ctx, epoch * epoch)
        kept.add(method, epoch - 1, [])
    kept.put_back(method)
    gauss = {epoch: math.exp(-((epoch - 15) ** 2) / 2) for epoch in range(1, 21)}
    expected = sum(share * epoch**2 for epoch, share in gauss.items()) / sum(gauss.values())
    torch.testing.assert_close(method.base.ctx.detach(), torch.full_like(method.base.ctx, expected))


def test_promptsrc_averages_late_on_some_datasets() -> None:
    averages = {
        name: resolve("promptsrc", "promptsrc-few").on(name).recipe.average for name in ("dtd", "sun397")
    }
    assert averages == {"dtd": (45, 5), "sun397": (30, 30)}
    transfer = resolve("promptsrc", "promptsrc-transfer").recipe
    assert (resolve("promptsrc").recipe.average, transfer.average) == ((15, 1), (6, 10))
    with pytest.raises(UsageError, match="weight_image must be a number from 0 on, not -1"):
        resolve("promptsrc", None, {"weight_image": -1.0})


def test_coprompt_without_consistency_and_adapters_is_maple(deep: Backbone) -> None:
    cfg = described(
        resolve("coprompt", None, {"weight": 0.0, "ratio_text": 0, "ratio_image": 0}).config, NAMES
    )
    method: Any = build("coprompt", cfg, deep, template=TEMPLATE, n_classes=4, seed=0)
    method.double()
    pairs, maple = states(method, deep), built("maple", deep)
    maple.load_state_dict(method.base.state_dict())
    gradients = []
    for each, seen in ((method, pairs), (maple, pairs[:, 0])):
        sum(losses(Classifier(deep, each, NAMES), seen, LABELS).values()).backward()
        learned = getattr(each, "base", each)
        gradients.append([parameter.grad for parameter in learned.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_coprompt_compares_with_another_view_and_a_sentence_that_is_drawn(deep: Backbone) -> None:
    cfg = described(resolve("coprompt").config, NAMES)
    method: Any = build("coprompt", cfg, deep, template=TEMPLATE, n_classes=4, seed=0)
    pairs = states(method.double(), deep)
    classifier, drawn = Classifier(deep, method, NAMES), set()
    for seed in range(9):
        with seeded(seed):
            drawn.add(losses(classifier, pairs, LABELS)["text"].item())
    assert len(drawn) == 3  # of one, two and three sentences about the classes
    out = classifier.output(pairs)
    torch.testing.assert_close(out.others[:, 0], of_pixels(deep, pairs[:, 1]))
    plain = classifier.output(pairs[:, 0])
    torch.testing.assert_close(plain.logits, out.logits)
    assert plain.others.shape[1] == 0
    assert not Classifier(deep, method.eval(), ["violin"]).sentences  # none are needed any more


def test_values_that_coprompt_sets_on_single_datasets() -> None:
    on = {name: resolve("coprompt").on(name) for name in ("imagenet", "oxford_pets", "food101", "emoji/food")}
    values = {name: (each.config.depth, each.config.n_ctx, each.config.weight) for name, each in on.items()}
    assert values == {
        "imagenet": (12, 4, 8),
        "oxford_pets": (12, 2, 0.1),
        "food101": (9, 4, 0.5),
        "emoji/food": (9, 2, 1),
    }
    assert (on["food101"].recipe.epochs, on["imagenet"].recipe.epochs) == (5, 8)
    for field, value in (("weight", -1), ("ratio_text", 1.5)):
        with pytest.raises(UsageError, match=f"{field} must be"):
            resolve("coprompt", None, {field: value})
