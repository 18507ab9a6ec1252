"""Contexts made of classes, samples and images, and DePT's head, are their formulas: plain loops, in fp64."""

import copy
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import cocoop
from cocoop import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import resolve
from cocoop.training.classifier import Classifier
from cocoop.training.loop import fit
from cocoop.training.prompt_file import read_prompt
from cocoop.training.samples import Samples
from cocoop.training.step import losses
from tests.methods.banks import built

NAMES = ["red apple", "green tea", "dog", "dog house"]
NEW_NAMES = ["violin", "red bus", "teapot"]
TEMPLATE = "a type of pet, a photo of a {}."
LABELS = torch.tensor([0, 3, 1, 2, 3])
SCALE = 100.0
HEADS = {"dept": "coop", "dept-cocoop": "cocoop", "dept-kgcoop": "kgcoop"}

Terms = dict[str, Tensor]


def images(clip: Backbone) -> Tensor:
    """Features as an image tower gives them: of any length."""
    return 3 * torch.randn(5, clip.embed_dim, generator=torch.Generator().manual_seed(4)).double()


def shaken(method: Any) -> Any:
    """The method with values that no symmetry hides, drawing the same random numbers in every call."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).double())
    return method.eval()


def unit(rows: Tensor) -> Tensor:
    return rows / rows.pow(2).sum(-1, keepdim=True).sqrt()


def tower(clip: Backbone, prompts: Sequence[Tensor]) -> Tensor:
    """Raw text features of embedded prompts, from SOT to EOT, one after the other."""
    text, rows = clip.text_tower, []
    for x in prompts:
        mask = text.attn_mask[: len(x), : len(x)]
        x = text.transformer((x + text.positional_embedding[: len(x)])[None], attn_mask=mask)
        rows.append(text.ln_final(x)[0, -1] @ text.text_projection)
    return torch.stack(rows)


def sentences(clip: Backbone, template: str, names: Sequence[str] = NAMES) -> Tensor:
    """Raw text features of a sentence written by hand."""
    table = clip.token_embedding
    return tower(clip, [table[clip.tokenize(template.replace("{}", name))] for name in names])


def prompted(clip: Backbone, contexts: Sequence[Tensor], names: Sequence[str] = NAMES) -> Tensor:
    """Raw text features where the vectors of each class stand before its name."""
    table, prompts = clip.token_embedding, []
    for name, vectors in zip(names, contexts, strict=True):
        sot, *tail = clip.tokenize(f"{name}.")
        prompts.append(torch.cat([table[[sot]], vectors, table[tail]]))
    return tower(clip, prompts)


def meta_net(net: Any, image: Tensor) -> Tensor:
    hidden = (net.linear1.weight @ image + net.linear1.bias).clamp(min=0)
    return net.linear2.weight @ hidden + net.linear2.bias


def with_head(method: Any, cfg: Any, fimg: Tensor, texts: Sequence[Tensor]) -> tuple[Tensor, Terms]:
    """DePT's logits and terms, given each image's raw text features."""
    head, similarity, of_images, of_texts = method.head, [], [], []
    for image, own, label in zip(fimg, texts, LABELS, strict=True):
        similarity.append(SCALE * unit(own) @ unit(image))
        for rows, film, feature in ((of_images, head.image, image), (of_texts, head.text, own[label])):
            rows.append(head.linear.weight @ (film.scale * feature + film.shift) + head.linear.bias)
    each = [F.cross_entropy(torch.stack(rows), LABELS) for rows in (similarity, of_images, of_texts)]
    logits = (1 - cfg.share) * torch.stack(similarity) + cfg.share * torch.stack(of_images)
    return logits, {
        "cross-entropy": (1 - cfg.share) * each[0],
        "head": cfg.share * (each[1] + each[2]) / 2,
    }


def of_dept(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    text = prompted(clip, [method.base.ctx[0]] * len(NAMES))
    return with_head(method, cfg, fimg, [text] * len(fimg))


def of_dept_cocoop(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    shifts = [meta_net(method.base.meta_net, unit(image)) for image in fimg]
    texts = [prompted(clip, [method.base.ctx + shift] * len(NAMES)) for shift in shifts]
    return with_head(method, cfg, fimg, texts)


def of_dept_kgcoop(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    text = prompted(clip, [method.base.ctx] * len(NAMES))
    logits, terms = with_head(method, cfg, fimg, [text] * len(fimg))
    cosine = (unit(text) * unit(sentences(clip, TEMPLATE))).sum(1)
    return logits, {**terms, "knowledge": 2.0 * (1 - cosine.mean())}


def of_capt(
    method: Any, clip: Backbone, cfg: Any, fimg: Tensor, kept: Tensor | None = None
) -> tuple[Tensor, Terms]:
    own, contexts = sentences(clip, TEMPLATE), []
    for number, feature in enumerate(own):
        hidden = method.down.weight @ (cfg.scale * feature) + method.down.bias
        hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
        if kept is not None:
            hidden = torch.where(kept[number], hidden / (1 - cfg.dropout), 0.0)
        contexts.append(method.ctx + method.up.weight @ hidden + method.up.bias)
    logits = SCALE * unit(fimg) @ unit(prompted(clip, contexts)).T
    moved = []
    for row, label in zip(logits / 100, LABELS, strict=True):
        margins = [
            F.cosine_similarity(own[label], other, dim=0) * cfg.margin / (len(NAMES) - 1) for other in own
        ]
        margins[label] = -sum(margin for number, margin in enumerate(margins) if number != label)
        moved.append(100 * (row - torch.stack(margins)))
    return logits, {"cross-entropy": F.cross_entropy(torch.stack(moved), LABELS)}


def of_bayesian(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    noise = torch.randn(cfg.samples, clip.width, generator=method.draws()).double()
    deviation = method.log_variance.exp().sqrt()
    probabilities = torch.zeros(len(fimg), len(NAMES), dtype=torch.float64)
    for each in noise:
        text = prompted(clip, [method.ctx + method.mean + deviation * each] * len(NAMES))
        probabilities = probabilities + (SCALE * unit(fimg) @ unit(text).T).softmax(1) / cfg.samples
    posterior = torch.distributions.Normal(method.mean, deviation)
    prior = torch.distributions.Normal(torch.zeros_like(deviation), torch.ones_like(deviation))
    return probabilities.log(), {
        "likelihood": -probabilities.log()[range(5), LABELS].mean(),
        "divergence": cfg.weight * torch.distributions.kl_divergence(posterior, prior).mean(),
    }


def of_lasp(
    method: Any,
    clip: Backbone,
    cfg: Any,
    fimg: Tensor,
    names: Sequence[str] = NAMES,
    noise: Tensor | None = None,
) -> tuple[Tensor, Terms]:
    ours = unit(prompted(clip, [method.ctx] * len(names), names) + method.shift)
    logits, terms = SCALE * unit(fimg) @ ours.T, []
    for number, template in enumerate(cfg.templates):
        teacher = unit(sentences(clip, template, names))
        if noise is not None:
            teacher = teacher + 0.05 * noise[number]
        for label, sentence in enumerate(teacher):
            terms.append(-(SCALE * ours @ sentence).log_softmax(0)[label])
    return logits, {
        "cross-entropy": F.cross_entropy(logits[:, : len(NAMES)], LABELS),
        "text": cfg.weight * sum(terms) / len(terms),
    }


def of_atprompt_cocoop(method: Any, clip: Backbone, cfg: Any, fimg: Tensor) -> tuple[Tensor, Terms]:
    color, shape = (clip.embed_words(word) for word in ("color", "shape"))
    v, rows = method.base.ctx, []
    for image in unit(fimg):
        last = v[4:] + meta_net(method.meta_net, image)
        context = torch.cat([v[:2], color, v[2:4], shape, last])
        rows.append(SCALE * unit(prompted(clip, [context] * len(NAMES))) @ image)
    return torch.stack(rows), {"cross-entropy": F.cross_entropy(torch.stack(rows), LABELS)}


REFERENCES = {
    "dept": of_dept,
    "dept-cocoop": of_dept_cocoop,
    "dept-kgcoop": of_dept_kgcoop,
    "capt": of_capt,
    "bayesian": of_bayesian,
    "lasp": of_lasp,
    "atprompt-cocoop": of_atprompt_cocoop,
}


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def gradients(terms: Terms, parameters: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(torch.stack(list(terms.values())).sum(), parameters))


@pytest.mark.parametrize("name", REFERENCES)
def test_features_of_any_length(name: str, deep: Backbone) -> None:
    method = shaken(built(name, deep))
    expected, terms = REFERENCES[name](method, deep, resolve(name).config, images(deep))
    classifier = Classifier(deep, method, NAMES)
    close(classifier.predict(images(deep)), expected.detach())
    close(losses(classifier, images(deep), LABELS), terms)


@pytest.mark.parametrize("name", HEADS)
def test_dept_without_a_share_is_its_base(name: str, deep: Backbone) -> None:
    method = shaken(built(name, deep, share=0.0))
    ours = Classifier(deep, method, NAMES)
    theirs = Classifier(deep, method.base, NAMES)
    close(ours.predict(images(deep)), theirs.predict(images(deep)))
    learned = list(method.base.parameters())
    close(*(gradients(losses(each, images(deep), LABELS), learned) for each in (ours, theirs)))


@pytest.mark.parametrize("name", HEADS)
def test_depts_head_answers_among_its_own_classes(name: str, deep: Backbone) -> None:
    method = shaken(built(name, deep))
    base = Classifier(deep, method.base, NEW_NAMES)
    new = Classifier(deep, method, NEW_NAMES, trained_names=NAMES)
    close(new.predict(images(deep)), base.predict(images(deep)))
    own = Classifier(deep, method, NAMES).predict(images(deep))
    some = Classifier(deep, method, [NAMES[3], NAMES[1]], trained_names=NAMES)
    close(some.predict(images(deep)), own[:, [3, 1]])


@pytest.mark.parametrize("name", HEADS)
def test_depts_head_learns_faster(name: str, deep: Backbone) -> None:
    method = built(name, deep)
    recipe = resolve(name).recipe
    assert recipe is not None
    head, rest = recipe.optimizer_of(method.named_parameters()).param_groups
    assert (head["factor"], rest["factor"]) == (6.5, 1.0)
    assert {id(each) for each in head["params"]} == {id(each) for each in method.head.parameters()}
    assert {id(each) for each in rest["params"]} == {id(each) for each in method.base.parameters()}


@pytest.mark.parametrize(("warmup", "rate"), [(1, 0.5), (0, 6.5)])
def test_all_that_is_learned_warms_up_at_one_rate(warmup: int, rate: float, deep: Backbone) -> None:
    method = shaken(built("dept", deep))
    classifier, bias = Classifier(deep, method, NAMES), method.head.linear.bias
    (gradient,) = gradients(losses(classifier, images(deep), LABELS), [bias])
    expected = bias.detach() - rate * gradient
    recipe = Recipe(
        epochs=1, batch_size=0, lr=1.0, warmup_epochs=warmup, warmup_lr=0.5, momentum=0.0, weight_decay=0.0,
        lr_factors={"head": 6.5},
    )  # fmt: skip
    fit(classifier, Samples(lambda epoch: images(deep), LABELS), recipe, seed=1)
    close(bias.detach(), expected)


def test_depts_head_starts_as_the_identity_and_a_linear_layer(deep: Backbone) -> None:
    head = built("dept", deep).head
    features = images(deep)
    assert torch.equal(head.image(features), features)
    assert torch.equal(head.text(features), features)
    assert head.linear.weight.shape == (len(NAMES), deep.embed_dim)


def test_capt_of_a_network_that_says_nothing_is_coop(deep: Backbone) -> None:
    method, coop = built("capt", deep, margin=0.0), built("coop", deep)
    for parameter in method.up.parameters():
        nn.init.zeros_(parameter)
    ours, theirs = Classifier(deep, method.eval(), NAMES), Classifier(deep, coop, NAMES)
    close(ours.predict(images(deep)), theirs.predict(images(deep)))
    (mine,) = gradients(losses(ours, images(deep), LABELS), [method.ctx])
    (its,) = gradients(losses(theirs, images(deep), LABELS), [coop.ctx])
    close(mine, its[0])


def test_capt_drops_hidden_values_in_training_alone(deep: Backbone) -> None:
    method = shaken(built("capt", deep)).train()
    classifier, cfg = Classifier(deep, method, NAMES), resolve("capt").config
    drawn = []
    for _ in range(2):  # anew in every step
        kept = torch.rand(len(NAMES), cfg.hidden, generator=copy.deepcopy(method.draws)()) >= cfg.dropout
        _, terms = of_capt(method, deep, cfg, images(deep), kept)
        close(losses(classifier, images(deep), LABELS), terms)
        drawn.append(kept)
    assert not torch.equal(*drawn)
    assert 0 < (~torch.cat(drawn)).sum() < torch.cat(drawn).numel() / 4


def test_capt_starts_within_its_bounds(deep: Backbone) -> None:
    method = built("capt", deep)
    for layer, outputs in ((method.down, 32), (method.up, deep.width)):
        for values in (layer.weight, layer.bias):
            assert 0.8 / math.sqrt(outputs) < values.abs().max() <= 1 / math.sqrt(outputs)


def test_capt_answers_among_other_names_in_any_order(deep: Backbone) -> None:
    method = shaken(built("capt", deep))
    new = Classifier(deep, method, NEW_NAMES, trained_names=NAMES).predict(images(deep))
    back = Classifier(deep, method, NEW_NAMES[::-1], trained_names=NAMES).predict(images(deep))
    close(new, back.flip(1))
    mixed = Classifier(deep, method, [*NEW_NAMES, *NAMES], trained_names=NAMES).predict(images(deep))
    close(mixed[:, :3], new)


def test_one_class_has_no_margin(deep: Backbone) -> None:
    classifier = Classifier(deep, shaken(built("capt", deep)), NAMES[:1])
    assert losses(classifier, images(deep), torch.zeros(5, dtype=torch.long))["cross-entropy"] == 0


def test_bayesian_without_deviation_is_coop(deep: Backbone) -> None:
    method, coop = shaken(built("bayesian", deep, weight=0.0)), built("coop", deep)
    with torch.no_grad():
        method.log_variance.fill_(-200.0)
        coop.ctx.copy_((method.ctx + method.mean)[None])
    ours, theirs = Classifier(deep, method, NAMES), Classifier(deep, coop, NAMES)
    close(ours.predict(images(deep)), theirs.predict(images(deep)).log_softmax(1))
    (mine,) = gradients(losses(ours, images(deep), LABELS), [method.ctx])
    (its,) = gradients(losses(theirs, images(deep), LABELS), [coop.ctx])
    close(mine, its[0])


def test_bayesian_predicts_the_same_wherever_it_is_loaded(deep: Backbone) -> None:
    method = shaken(built("bayesian", deep))
    first = Classifier(deep, method, NAMES).predict(images(deep))
    method.train()
    for _ in range(3):
        losses(Classifier(deep, method, NAMES), images(deep), LABELS)
    close(Classifier(deep, method, NAMES).predict(images(deep)), first)
    again = built("bayesian", deep, seed=9)
    again.load_state_dict(method.state_dict())
    close(Classifier(deep, again, NAMES).predict(images(deep)), first)
    close(first.exp().sum(1), torch.ones(5).double())


def test_bayesian_draws_anew_in_every_step(deep: Backbone) -> None:
    method = shaken(built("bayesian", deep)).train()
    first, second = (method(images(deep)) for _ in range(2))
    assert first.shape == (10, 1, 4, deep.width)
    assert not torch.isclose(first, second).any()


@pytest.mark.parametrize("count", [1, 3, 5])
def test_bayesian_takes_as_many_images_as_samples(count: int, deep: Backbone) -> None:
    method = shaken(built("bayesian", deep, samples=3))
    own = Classifier(deep, method, NAMES)
    close(own.predict(images(deep)[:count]), own.predict(images(deep))[:count])


def test_lasp_without_its_term_and_its_shift_is_coop(deep: Backbone) -> None:
    method, coop = built("lasp", deep, weight=0.0), built("coop", deep)
    ours, theirs = Classifier(deep, method, NAMES), Classifier(deep, coop, NAMES)
    close(ours.predict(images(deep)), theirs.predict(images(deep)))
    (mine,) = gradients(losses(ours, images(deep), LABELS), [method.ctx])
    (its,) = gradients(losses(theirs, images(deep), LABELS), [coop.ctx])
    close(mine, its[0])


def test_lasp_learns_from_the_names_of_other_classes(deep: Backbone) -> None:
    method, names = shaken(built("lasp", deep)), [*NAMES, *NEW_NAMES]
    _, terms = of_lasp(method, deep, resolve("lasp").config, images(deep), names)
    close(losses(Classifier(deep, method, names, trained_names=NAMES), images(deep), LABELS), terms)
    alone = losses(Classifier(deep, method, NAMES), images(deep), LABELS)
    close(alone["cross-entropy"], terms["cross-entropy"])
    assert not torch.isclose(alone["text"], terms["text"])


def test_lasp_adds_noise_in_every_other_step_at_random(deep: Backbone) -> None:
    method = shaken(built("lasp", deep)).train()
    classifier, cfg, noisy = Classifier(deep, method, NAMES), resolve("lasp").config, []
    for _ in range(8):
        generator = copy.deepcopy(method.draws)()
        noisy.append(torch.rand(1, generator=generator).item() < 0.5)
        shape = (len(cfg.templates), len(NAMES), deep.embed_dim)
        noise = torch.randn(shape, generator=generator).double() if noisy[-1] else None
        _, terms = of_lasp(method, deep, cfg, images(deep), noise=noise)
        close(losses(classifier, images(deep), LABELS), terms)
    assert 0 < sum(noisy) < 8


def test_the_released_sentences_of_lasp() -> None:
    sentences = resolve("lasp").config.templates
    assert len(sentences) == 35
    assert [text for text in set(sentences) if sentences.count(text) > 1] == ["a bad photo of the {}."]


def test_a_training_is_given_the_names_that_its_method_sees(tmp_path: Path) -> None:
    records = cocoop.run(
        "base-to-new",
        datasets=["emoji/activities"],
        methods=["coop", "lasp"],
        overrides=["coop.epochs=1", "lasp.epochs=1"],
        seeds=[0],
        shots=1,
        backbone="toy",
        folder=tmp_path,
    )
    (new,) = {tuple(each.class_names) for each in records if each.cell.testing.subset == "new"}
    cards = {card.method: card for card, _ in map(read_prompt, (tmp_path / "prompts").glob("*.safetensors"))}
    assert cards["lasp"].other_names == list(new)
    assert cards["coop"].other_names == []
    assert not set(new) & set(cards["lasp"].class_names)


def test_atprompt_with_a_network_that_says_nothing_is_atprompt_on_coop(deep: Backbone) -> None:
    method = shaken(built("atprompt-cocoop", deep))
    for parameter in method.meta_net.linear2.parameters():
        nn.init.zeros_(parameter)
    ours, theirs = (Classifier(deep, each, NAMES) for each in (method, method.base))
    close(ours.predict(images(deep)), theirs.predict(images(deep)))
    close(*(gradients(losses(each, images(deep), LABELS), [method.base.ctx]) for each in (ours, theirs)))


@pytest.mark.parametrize(
    ("preset", "recipe", "config"),
    [
        ("dept-released", (0.0035, 4, 10, 1), {"ctx_init": None, "n_ctx": 16, "share": 0.7}),
        ("dept-cocoop-released", (0.002, 1, 10, 1), {"ctx_init": "a photo of a", "share": 0.7}),
        ("dept-kgcoop-released", (0.0035, 4, 10, 1), {"weight": 2.0, "share": 0.7}),
        ("capt-released", (0.0035, 4, 10, 1), {"scale": 0.5, "hidden": 32, "dropout": 0.1, "margin": 0.0031}),
        ("bayesian-released", (0.002, 1, 10, 1), {"samples": 10, "weight": 0.001}),
        ("lasp-released", (0.032, 32, 25, 3), {"weight": 5.0, "noise": 0.05}),
        ("atprompt-cocoop-released", (0.002, 1, 10, 1), {"n_att": 2, "n_ctx": 2, "reduction": 16}),
    ],
)
def test_released_values(preset: str, recipe: tuple, config: dict[str, Any]) -> None:
    choice = resolve(preset.rpartition("-")[0], preset)
    own = choice.recipe
    assert own is not None
    assert own.optimizer == "sgd"
    assert (own.lr, own.batch_size, own.epochs, own.warmup_epochs) == recipe
    assert config.items() <= dataclasses.asdict(choice.config).items()


@pytest.mark.parametrize(
    ("name", "dataset", "values"),
    [
        ("bayesian", "eurosat", {"samples": 20, "epochs": 60}),
        ("bayesian", "ucf101", {"samples": 5, "epochs": 20}),
        ("lasp", "dtd", {"weight": 10.0, "epochs": 50, "warmup_epochs": 5, "clip": 1.0}),
        ("lasp", "eurosat", {"weight": 5.0, "epochs": 300, "warmup_epochs": 7}),
        ("lasp", "food101", {"epochs": 10, "batch_size": 1, "lr": 0.002, "warmup_epochs": 1}),
        ("atprompt-cocoop", "ucf101", {"attributes": ("precision",), "n_att": 4, "n_ctx": 4}),
        ("atprompt-cocoop", "oxford_flowers", {"n_att": 6, "n_ctx": 6, "epochs": 10}),
        ("atprompt-cocoop", "dtd", {"n_att": 2, "n_ctx": 2}),
        ("dept-kgcoop", "dtd", {"teacher": "a photo of a {}, a type of texture."}),
    ],
)
def test_values_of_single_datasets(name: str, dataset: str, values: dict[str, Any]) -> None:
    choice = resolve(name).on(dataset)
    assert choice.recipe is not None
    own = dataclasses.asdict(choice.config) | dataclasses.asdict(choice.recipe)
    assert values.items() <= own.items()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dept", {"share": 1.5}, "share must be from 0 to 1"),
        ("dept-cocoop", {"share": -0.1}, "share must be from 0 to 1"),
        ("capt", {"hidden": 0}, "hidden must be at least 1"),
        ("capt", {"dropout": 1.0}, "dropout must be from 0 to less than 1"),
        ("bayesian", {"samples": 0}, "samples must be at least 1"),
        ("lasp", {"templates": ()}, "at least one template"),
        ("atprompt-cocoop", {"n_att": 0}, "n_att and n_ctx must be at least 1"),
        ("atprompt-cocoop", {"reduction": 0}, "reduction must be at least 1"),
    ],
)
def test_settings_that_make_no_sense(
    name: str, settings: dict[str, Any], message: str, deep: Backbone
) -> None:
    with pytest.raises(UsageError, match=message):
        built(name, deep, **settings)


@pytest.mark.parametrize("name", REFERENCES)
def test_they_improve_on_a_method_that_is_there(name: str) -> None:
    facts = METHODS.get(name).facts
    assert facts.extends in METHODS.names()
    assert facts.sees_new_names == (name == "lasp")
    assert facts.conditional == name.endswith("cocoop")
