"""Every method is its formula: a plain reference of each, written from the papers and released code, in fp64.

References encode text with open_clip's own `encode_text`, or with the padded path, image by image.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS, build
from cocoop.methods._hooks import WithFit
from cocoop.methods._parts import Draws
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import resolve
from cocoop.text.prompt import Prompt
from cocoop.text.reference import ReferenceEncoder
from cocoop.training.classifier import Classifier
from cocoop.training.distributed import Group
from cocoop.training.loop import fit
from cocoop.training.samples import Samples
from cocoop.training.step import backward, losses
from cocoop.utils.seeding import seeded
from tests.conftest import make_tower
from tests.described import described
from tests.methods import test_references_caches as caches
from tests.methods import test_references_contexts as contexts
from tests.methods import test_references_prompts as prompts
from tests.methods import test_references_sentences as sentences
from tests.methods import test_references_testtime as testtime
from tests.methods import test_references_tokens as tokens
from tests.methods import test_references_tuned as tuned
from tests.methods.banks import LABELS, NAMES, SCALE, TEMPLATE, bank, features, states
from tests.methods.references_heads import HEADS

Terms = dict[str, Tensor]
Reference = Callable[[Any, Backbone, Any, Tensor], tuple[Tensor, Terms]]


def images(backbone: Backbone) -> Tensor:
    return F.normalize(
        torch.randn(5, backbone.embed_dim, generator=torch.Generator().manual_seed(1)).double(), dim=1
    )


def words(backbone: Backbone, template: str) -> Tensor:
    """Raw text features of hand-written prompts, by open_clip."""
    rows = [backbone.tokenize(template.replace("{}", name)) for name in NAMES]
    return backbone.model.encode_text(
        torch.tensor([row + [0] * (backbone.context_length - len(row)) for row in rows])
    )


def learned(backbone: Backbone, prompt: Prompt, context: Tensor) -> Tensor:
    """Normalised text features under context vectors, by the padded path."""
    return ReferenceEncoder(backbone, prompt, NAMES)(context[None, None])[0]


def of_zeroshot(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, Terms]:
    return SCALE * zimg @ F.normalize(words(clip, TEMPLATE), dim=1).T, {}


def of_coop(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, Terms]:
    logits = SCALE * zimg @ learned(clip, Prompt("a photo of a {}.", 4), method.ctx[0]).T
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


def of_cocoop(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, Terms]:
    net = method.meta_net
    rows = []
    for image in zimg:
        shift = net.linear2.weight @ (net.linear1.weight @ image + net.linear1.bias).clamp(min=0)
        rows.append(
            SCALE
            * learned(clip, Prompt("a photo of a {}.", 4), method.ctx + shift + net.linear2.bias)
            @ image
        )
    logits = torch.stack(rows)
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


def of_kgcoop(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, Terms]:
    ztxt, teacher = learned(clip, Prompt("a photo of a {}.", 4), method.ctx), words(clip, TEMPLATE)
    logits = SCALE * zimg @ ztxt.T
    distance = (ztxt - teacher / teacher.norm(dim=1, keepdim=True)).pow(2).sum(1).mean()  # equation 4
    return logits, {
        "cross-entropy": F.cross_entropy(logits, LABELS),
        "knowledge": cfg.weight * distance / 2,
    }


def of_prograd(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, Terms]:
    # eight words, nine tokens: the last "a" stays a token between the vectors and the name
    prompt = Prompt("X X X X X X X X a type of pet, a photo of a {}.", 16)
    logits = SCALE * zimg @ learned(clip, prompt, method.ctx).T
    teacher = words(clip, TEMPLATE)
    zero = SCALE * zimg @ (teacher / teacher.norm(dim=1, keepdim=True)).T
    target = (zero / cfg.temperature).exp() / (zero / cfg.temperature).exp().sum(1, keepdim=True)
    ours = torch.log((logits / cfg.temperature).softmax(1))
    return logits, {
        "cross-entropy": F.cross_entropy(logits, LABELS),
        "distillation": -(cfg.temperature**2) * (target * ours).sum(1).mean(),
    }


def of_deep_language(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, Terms]:
    rows = torch.cat([method.ctx, *method.deeper])
    logits = SCALE * zimg @ learned(clip, Prompt("a photo of a {}.", 4), rows).T
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


def of_atprompt(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, Terms]:
    """By hand: SOT, two vectors, "color", two vectors, "shape", two vectors, name, stop, EOT."""
    text = clip.text_tower
    color, shape = (clip.embed_words(word) for word in ("color", "shape"))
    rows = []
    for name in NAMES:
        sot, *inner, eot = clip.tokenize(f"{name}.")
        table = clip.token_embedding
        v = method.ctx
        tail = [table[token][None] for token in (*inner, eot)]
        x = torch.cat([table[sot][None], v[:2], color, v[2:4], shape, v[4:], *tail])
        x = (x + text.positional_embedding[: len(x)])[None]
        mask = text.attn_mask[: x.shape[1], : x.shape[1]]
        x = text.ln_final(text.transformer(x, attn_mask=mask))[0, -1] @ text.text_projection
        rows.append(x / x.norm())
    logits = SCALE * zimg @ torch.stack(rows).T
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


def of_tcp(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, Terms]:
    """By hand: SOT, four vectors, name, stop, EOT; before one block, class tokens replace the vectors."""
    text, net, table = clip.text_tower, method.meta_net, clip.token_embedding
    teacher = words(clip, TEMPLATE)
    teacher = teacher / teacher.norm(dim=1, keepdim=True)
    blocks = text.transformer.resblocks
    rows = []
    for name, feature in zip(NAMES, teacher, strict=True):
        hidden = net.linear1.weight @ feature + net.linear1.bias
        hidden = hidden * (1.702 * hidden).sigmoid()
        tokens = (net.linear2.weight @ hidden + net.linear2.bias).reshape(1, 4, -1)
        sot, *tail = clip.tokenize(f"{name}.")
        x = torch.cat([table[[sot]], method.ctx, table[tail]])
        x = (x + text.positional_embedding[: len(x)])[None]
        mask = text.attn_mask[: x.shape[1], : x.shape[1]]
        for number, block in enumerate(blocks):
            if number == min(cfg.block, len(blocks) - 1):
                x = torch.cat([x[:, :1], tokens, x[:, 5:]], dim=1)
            x = block(x, attn_mask=mask)
        x = text.ln_final(x)[0, -1] @ text.text_projection
        rows.append(x / x.norm())
    ztxt = torch.stack(rows)
    logits = SCALE * zimg @ ztxt.T
    return logits, {
        "cross-entropy": F.cross_entropy(logits, LABELS),
        "knowledge": cfg.weight * (1 - (ztxt * teacher).sum(1).mean()),
    }


def of_taskres(method: Any, clip: Backbone, cfg: Any, zimg: Tensor) -> tuple[Tensor, Terms]:
    weights = words(clip, TEMPLATE) + cfg.alpha * method.residual
    logits = SCALE * zimg @ (weights / weights.norm(dim=1, keepdim=True)).T
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


REFERENCES: dict[str, Reference] = {
    "zeroshot": of_zeroshot,
    "coop": of_coop,
    "cocoop": of_cocoop,
    "kgcoop": of_kgcoop,
    "prograd": of_prograd,
    "deep-language": of_deep_language,
    "taskres": of_taskres,
    "atprompt": of_atprompt,
    "tcp": of_tcp,
    **caches.REFERENCES,
    **HEADS,
    **contexts.REFERENCES,
    **prompts.REFERENCES,
    **sentences.REFERENCES,
    **testtime.REFERENCES,
    **tuned.REFERENCES,
    **tokens.REFERENCES,
}


# fewer steps than released, of those that a method takes in its own fit
QUICK: dict[str, dict[str, Any]] = {"cross-modal": {"updates": 60}, "lp-plus-plus": {"descents": 12}}


def prepared(name: str, clip: Backbone, **settings: Any) -> tuple[Any, Any]:
    """A method in fp64 with values that no symmetry hides, and its settings."""
    settings = QUICK.get(name, {}) | settings
    cfg = described(dataclasses.replace(resolve(name).config, **settings), NAMES)
    method: Any = build(name, cfg, clip, template=TEMPLATE, n_classes=len(NAMES), seed=0)
    method.double()
    if isinstance(method, WithFit):
        method.fit(bank(clip, method, NAMES) if name in HEADS else caches.bank(clip, method))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).double())
    if any(isinstance(each, Draws | nn.Dropout) for each in method.modules()):
        method.eval()  # the same random numbers in every call
    return method, cfg


def gradients(terms: Terms, parameters: list[Tensor]) -> list[list[Tensor]]:
    """Those of every term; zeros where a parameter has no part in it."""
    of_term = partial(torch.autograd.grad, inputs=parameters, retain_graph=True, materialize_grads=True)
    return [list(of_term(term)) for term in terms.values()]


def test_every_method_has_a_reference() -> None:
    ablations = {name for name in METHODS.names() if METHODS.get(name).facts.ablation}
    assert REFERENCES.keys() == set(METHODS.names()) - ablations


@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in REFERENCES), ("tcp", {"block": 1})])
def test_logits_terms_and_gradients(name: str, settings: dict[str, Any], deep: Backbone) -> None:
    method, cfg = prepared(name, deep, **settings)
    zimg = states(method, deep)
    with seeded(1):  # steps draw the same
        expected, terms = REFERENCES[name](method, deep, cfg, zimg)
    classifier = Classifier(deep, method, NAMES)
    torch.testing.assert_close(classifier(zimg), expected, rtol=1e-9, atol=1e-9)
    if not method.facts.sees_test_images:
        answers = classifier.predict(features(classifier, zimg))
        torch.testing.assert_close(answers, expected.detach(), rtol=1e-9, atol=1e-9)
    parameters = list(method.parameters())
    if not parameters:
        return
    with seeded(1):
        ours = losses(classifier, zimg, LABELS)
    torch.testing.assert_close(ours, terms, rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(gradients(ours, parameters), gradients(terms, parameters), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def stepped(name: str, value: Tensor, gradient: Tensor, recipe: Recipe) -> Tensor:
    """A parameter after the first step of its optimiser, by hand."""
    gradient = gradient + (recipe.weight_decay * value if recipe.optimizer != "adamw" else 0)
    if recipe.optimizer == "sgd":
        return value - recipe.lr * gradient  # the first step has no momentum yet
    if recipe.optimizer == "adamw":
        value = value - recipe.lr * recipe.weight_decay * value
    return value - recipe.lr * gradient / (gradient.abs() + recipe.eps)  # both moments are the gradient's


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("name", [name for name in REFERENCES if METHODS.get(name).facts.training == "steps"])
def test_one_step(name: str, optimizer: Any, deep: Backbone) -> None:
    method, cfg = prepared(name, deep)
    recipe = Recipe(lr=0.01, optimizer=optimizer, eps=1e-3)
    zimg = states(method, deep)
    with seeded(1):
        _, terms = REFERENCES[name](method, deep, cfg, zimg)
    parameters = list(method.parameters())
    each = gradients(terms, parameters)
    if name == "prograd":
        ours, teacher = each
        against = [bool((g * h).sum() < 0) for g, h in zip(ours, teacher, strict=True)]
        total = [
            g - cfg.strength * (g * h).sum() / (h * h).sum() * h if conflict else g
            for g, h, conflict in zip(ours, teacher, against, strict=True)
        ]
    else:
        total = [torch.stack(parts).sum(0) for parts in zip(*each, strict=True)]
    expected = [stepped(name, p.detach(), g, recipe) for p, g in zip(parameters, total, strict=True)]
    stepper = recipe.optimizer_of(method.named_parameters())
    with seeded(1):
        backward(method, losses(Classifier(deep, method, NAMES), zimg, LABELS), share=1.0)
    stepper.step()
    torch.testing.assert_close([p.detach() for p in parameters], expected, rtol=1e-8, atol=1e-10)


def test_prograd_takes_away_what_goes_against_the_teacher(deep: Backbone) -> None:
    method, _ = prepared("prograd", deep)
    teacher = torch.tensor([[3.0, 4.0]])
    against, along = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    kept = method.combine([against, teacher])
    assert torch.isclose((kept * teacher).sum(), torch.tensor(0.0), atol=1e-6)
    torch.testing.assert_close(kept, against + torch.tensor([[0.36, 0.48]]))
    assert torch.equal(method.combine([along, teacher]), along)


def test_a_gradient_rule_is_not_shared_between_processes(deep: Backbone) -> None:
    method, _ = prepared("prograd", deep)
    classifier, recipe = Classifier(deep, method, NAMES), Recipe(epochs=1, batch_size=4)
    with pytest.raises(UsageError, match="ProGrad combines the gradients of whole batches"):
        fit(classifier, Samples(lambda epoch: images(deep), LABELS), recipe, seed=1, group=Group(2, 0))


@pytest.mark.parametrize(("name", "setting"), [("kgcoop", {"weight": 0.0}), ("prograd", {"strength": 0.0})])
def test_without_its_term_it_is_coop(name: str, setting: dict[str, Any], deep: Backbone) -> None:
    method, _ = prepared(name, deep, **setting)
    backward(method, losses(Classifier(deep, method, NAMES), images(deep), LABELS), share=1.0)
    logits = SCALE * images(deep) @ learned(deep, method.prompts[0], method.ctx).T
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, LABELS), method.ctx)
    torch.testing.assert_close(method.ctx.grad, expected, rtol=1e-9, atol=1e-9)


def test_taskres_without_a_residual_is_zero_shot(deep: Backbone) -> None:
    method, _ = prepared("taskres", deep, alpha=0.0)
    zero = build("zeroshot", resolve("zeroshot").config, deep, template=TEMPLATE, n_classes=4, seed=0)
    ours, theirs = (Classifier(deep, each, NAMES).predict(images(deep)) for each in (method, zero))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("block", [1, 2])
def test_class_tokens_of_a_network_that_says_nothing_are_zeros(block: int, deep: Backbone) -> None:
    method, _ = prepared("tcp", deep, block=block)
    for parameter in method.meta_net.linear2.parameters():
        nn.init.zeros_(parameter)
    classifier = Classifier(deep, method, NAMES)
    contexts = method(images(deep), classifier.text)
    assert contexts.shape == (1, len(NAMES), 8, deep.width)
    assert not contexts[:, :, 4:].any()
    rows = torch.cat([method.ctx, torch.zeros_like(method.ctx)])
    expected = SCALE * images(deep) @ learned(deep, Prompt("X X X X {}.", 4, deeper=(block,)), rows).T
    torch.testing.assert_close(classifier.predict(images(deep)), expected.detach(), rtol=1e-9, atol=1e-9)


def test_settings_that_make_no_sense(deep: Backbone) -> None:
    with pytest.raises(UsageError, match="block must be at least 1"):
        prepared("tcp", deep, block=0)
    with pytest.raises(UsageError, match="weight must be a number from 0 on"):
        prepared("tcp", deep, weight=-1.0)
    with pytest.raises(UsageError, match="a text tower of two blocks; clip-one-block has one"):
        prepared("tcp", make_tower("clip-one-block"))
    method, _ = prepared("tcp", deep, block=8)
    assert method.prompts[0].deeper == (3,)


def test_prograd_starts_from_zeros_and_the_words(deep: Backbone) -> None:
    method: Any = build("prograd", resolve("prograd").config, deep, template=TEMPLATE, n_classes=4, seed=0)
    assert not method.ctx[:8].any()
    torch.testing.assert_close(method.ctx[8:].double(), deep.embed_words("a type of pet, a photo of a")[:8])
    with pytest.raises(UsageError, match="n_ctx must be at least 8"):
        prepared("prograd", deep, n_ctx=7)


@pytest.mark.parametrize(
    ("preset", "recipe", "config"),
    [
        ("kgcoop-released", ("sgd", 0.002, 128, 100), {"weight": 8.0, "ctx_init": "a photo of a"}),
        ("prograd-released", ("sgd", 0.002, 32, 100), {"n_ctx": 16, "strength": 1.0, "temperature": 1.0}),
        ("deep-language-released", ("sgd", 0.0025, 4, 5), {"n_ctx": 4, "depth": 12}),
        ("atprompt-released", ("sgd", 0.002, 32, 100), {"n_att": 2, "n_ctx": 2}),
        ("taskres-released", ("adam", 0.002, 256, 200), {"alpha": 0.5}),
        ("tcp-released", ("adam", 0.002, 32, 50), {"n_ctx": 4, "words": "{}.", "block": 8, "weight": 8.0}),
    ],
)
def test_released_values(preset: str, recipe: tuple, config: dict[str, Any]) -> None:
    choice = resolve(preset.rpartition("-")[0], preset)
    assert choice.recipe is not None
    values = (choice.recipe.optimizer, choice.recipe.lr, choice.recipe.batch_size, choice.recipe.epochs)
    assert values == recipe
    assert config.items() <= dataclasses.asdict(choice.config).items()


@pytest.mark.parametrize("name", ["atprompt", "atprompt-cocoop"])
def test_underscores_of_names_are_blanks_behind_attributes_too(name: str, deep: Backbone) -> None:
    method: Any = build(name, resolve(name).config, deep, template="", n_classes=1, seed=0)
    (slots,) = method.prompts[0].slots(deep.tokenize, ["american_bulldog"])
    words = [slot.token for slot in slots if slot.ctx < 0][3:-1]
    assert words == deep.tokenize("american bulldog.")[1:-1]


def test_values_of_single_datasets() -> None:
    on_dtd = resolve("atprompt").on("dtd").config
    assert (on_dtd.attributes, on_dtd.n_att, on_dtd.n_ctx) == (("pattern", "color", "design"), 4, 4)
    assert resolve("kgcoop").on("dtd").config.teacher == "a photo of a {}, a type of texture."
    assert resolve("prograd").on("food101").config.template == "a type of food, a photo of {}."
    on_aircraft, on_sun = (resolve("tcp").on(name) for name in ("fgvc_aircraft", "sun397"))
    assert on_aircraft.config.words == "{}, a type of aircraft."
    assert on_aircraft.config.teacher == "a photo of an aircraft {}."
    assert on_sun.recipe is not None
    assert (on_sun.recipe.epochs, on_sun.recipe.eps, on_sun.recipe.weight_decay) == (25, 1e-3, 5e-4)
    assert (on_sun.config.words, on_sun.config.teacher) == ("{}.", "dataset")
    on_imagenet = resolve("taskres").on("imagenet")
    assert on_imagenet.recipe is not None
    assert (on_imagenet.recipe.lr, on_imagenet.config.templates) == (2e-4, ("select7", "dataset"))
    assert resolve("taskres", None, {"alpha": 2.0}).on("oxford_flowers").config.alpha == 2.0
    assert resolve("taskres").on("oxford_flowers").config.alpha == 1.0
