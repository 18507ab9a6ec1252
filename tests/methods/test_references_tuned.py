"""What is tuned inside the towers without prompts, is its formula: by open_clip's own modules, in fp64."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocoop import Backbone
from cocoop.backbones.vision import Cut
from cocoop.errors import UsageError
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import resolve
from cocoop.training.classifier import Classifier
from cocoop.training.loop import fit
from cocoop.training.samples import Samples
from cocoop.training.step import losses
from tests.methods.banks import LABELS, NAMES, SCALE, TEMPLATE, built, features, states

Terms = dict[str, Tensor]


class Pixels:
    """A method whose images are their pixels: the ones of which every other has its states."""

    cut: Cut = "pixels"

    def image(self, state: Tensor, tower: Any) -> Tensor:
        return state


def shaken(method: Any) -> Any:
    """The method with values that no symmetry hides."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).double())
    return method


def words(clip: Backbone, model: Any, template: str) -> Tensor:
    """Normalised text features of hand-written prompts, by open_clip."""
    rows = [clip.tokenize(template.replace("{}", name)) for name in NAMES]
    rows = [row + [0] * (clip.context_length - len(row)) for row in rows]
    return F.normalize(model.encode_text(torch.tensor(rows)), dim=1)


def cross_entropy(logits: Tensor) -> tuple[Tensor, Terms]:
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS)}


def gradients(terms: Terms, method: Any) -> list[Tensor]:
    return list(torch.autograd.grad(sum(terms.values(), torch.tensor(0.0)), list(method.parameters())))


def zero_shot(clip: Backbone, template: str) -> Tensor:
    images = F.normalize(clip.model.encode_image(states(Pixels(), clip)), dim=1)
    return SCALE * images @ words(clip, clip.model, template).T


def of_prolip(method: Any, clip: Backbone, cfg: Any, state: Tensor) -> tuple[Tensor, Terms]:
    visual = deepcopy(clip.model.visual)
    start, visual.proj = visual.proj.detach(), None
    projection = start + method.change
    logits = SCALE * F.normalize(visual(states(Pixels(), clip)) @ projection, dim=1)
    logits = logits @ words(clip, clip.model, TEMPLATE).T
    distance = sum((row @ row for row in projection - start), torch.tensor(0.0))
    return logits, {"cross-entropy": F.cross_entropy(logits, LABELS), "penalty": distance / 3}  # three shots


@contextmanager
def added(blocks: Any, terms: dict[int, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Add a term of a block's input under its first layer norm to what the block gives."""

    def hook(number: int) -> Callable[..., Tensor]:
        return lambda block, args, out: out + terms[number](block.ln_1(args[0]))

    handles = [blocks[number].register_forward_hook(hook(number)) for number in terms]
    yield
    for handle in handles:
        handle.remove()


def adapter(method: Any, cfg: Any, tower: str, place: int, released: bool) -> Callable[[Tensor], Tensor]:
    """By hand; as released, the gradient goes into the parameters as if the scale were 1."""
    down, up = (getattr(method, f"{tower}_{way}")[place] for way in ("down", "up"))
    middle = method.shared[place]

    def run(normed: Tensor) -> Tensor:
        seen = cfg.scale * normed + (1 - cfg.scale) * normed.detach() if released else normed
        hidden = (seen @ down.weight.T + down.bias).clamp(min=0)
        hidden = (hidden @ middle.weight.T + middle.bias).clamp(min=0)
        term = hidden @ up.weight.T + up.bias
        return cfg.scale * term.detach() + (term - term.detach()) if released else cfg.scale * term

    return run


def of_mma(
    method: Any, clip: Backbone, cfg: Any, state: Tensor, released: bool = True
) -> tuple[Tensor, Terms]:
    model: Any = clip.model
    last = min(len(model.visual.transformer.resblocks), len(model.transformer.resblocks))
    first = min(cfg.frozen_blocks, last - 1)
    of_image, of_text = (
        {first + place: adapter(method, cfg, tower, place, released) for place in range(last - first)}
        for tower in ("image", "text")
    )
    with added(model.visual.transformer.resblocks, of_image), added(model.transformer.resblocks, of_text):
        images = F.normalize(model.encode_image(states(Pixels(), clip)), dim=1)
        logits = SCALE * images @ words(clip, model, "a photo of a {}.").T
    return cross_entropy(logits)


def lora(method: Any, cfg: Any, clip: Backbone) -> Backbone:
    """The towers with the changes merged into their weights, differentiably."""
    changed = deepcopy(clip)
    model: Any = changed.model
    for tower, blocks in (
        ("image", model.visual.transformer.resblocks),
        ("text", model.transformer.resblocks),
    ):
        a, b = getattr(method, f"{tower}_a"), getattr(method, f"{tower}_b")
        for number, block in enumerate(blocks):
            merged = torch.cat([b[number, part] @ a[number, part] for part in range(3)])
            weight = block.attn.in_proj_weight.detach()
            del block.attn.in_proj_weight
            block.attn.in_proj_weight = weight + cfg.alpha / cfg.rank**0.5 * merged
    return changed


def of_clip_lora(method: Any, clip: Backbone, cfg: Any, state: Tensor) -> tuple[Tensor, Terms]:
    changed = lora(method, cfg, clip)
    images = F.normalize(changed.model.encode_image(states(Pixels(), clip)), dim=1)
    return cross_entropy(SCALE * images @ words(clip, changed.model, "a photo of a {}.").T)


def normed(method: Any, clip: Backbone) -> Any:
    """open_clip's towers with the learned layer norms."""
    model: Any = deepcopy(clip.model)
    for tower, blocks in (
        ("image", model.visual.transformer.resblocks),
        ("text", model.transformer.resblocks),
    ):
        norms = getattr(method, f"{tower}_norms")
        for number, block in enumerate(blocks):
            block.ln_1, block.ln_2 = norms[2 * number], norms[2 * number + 1]
    if len(method.image_outer):
        model.visual.ln_pre, model.visual.ln_post = method.image_outer
        (model.ln_final,) = method.text_outer
    return model


def of_two_stage(method: Any, clip: Backbone, cfg: Any, state: Tensor) -> tuple[Tensor, Terms]:
    model = normed(method, clip)
    images = F.normalize(model.encode_image(states(Pixels(), clip)), dim=1)
    return cross_entropy(SCALE * images @ words(clip, model, "a photo of a {}.").T)


REFERENCES = {"prolip": of_prolip, "mma": of_mma, "clip-lora": of_clip_lora, "two-stage": of_two_stage}


@pytest.mark.parametrize(
    ("settings", "weight"),
    [({}, 1 / 2), ({"power": 2}, 1 / 4), ({"penalty": 0.3}, 0.3), ({"penalty": 0.0}, 0.0)],
)
def test_prolip_weighs_its_penalty_by_the_shots(
    settings: dict[str, Any], weight: float, deep: Backbone
) -> None:
    """Two images of one class and one of each other: K is 2."""
    method = built("prolip", deep, **settings)
    state = states(method, deep)
    recipe = Recipe(epochs=3, batch_size=0, schedule="step", optimizer="adam", weight_decay=0.0, lr=0.01)
    fit(Classifier(deep, method, NAMES), Samples(lambda epoch: state, LABELS), recipe, seed=1)
    assert float(method.penalty) == pytest.approx(weight)
    terms = losses(Classifier(deep, method, NAMES), state, LABELS)
    assert method.change.any()
    torch.testing.assert_close(terms["penalty"], method.penalty * method.change.square().sum())


def test_prolip_stays_with_clips_projection(deep: Backbone) -> None:
    """Untrained it is zero-shot CLIP, and under a heavy penalty nearly so; without any it goes its way."""
    moved = []
    for penalty in (1e9, 0.0):
        method = built("prolip", deep, penalty=penalty)
        state = states(method, deep)
        classifier = Classifier(deep, method, NAMES)
        torch.testing.assert_close(classifier(state), zero_shot(deep, TEMPLATE), rtol=1e-9, atol=1e-9)
        recipe = Recipe(
            epochs=300, batch_size=0, schedule="step", optimizer="adam", weight_decay=0.0, lr=1e-3, eps=1e-4
        )
        fit(classifier, Samples(lambda epoch, state=state: state, LABELS), recipe, seed=1)  # type: ignore[misc]
        moved.append(method.change.abs().max().item())
    assert moved[0] < 1e-5
    assert moved[1] > 0.05


def test_prolip_refuses_a_penalty_below_zero() -> None:
    with pytest.raises(UsageError, match="penalty must be a number from 0 on"):
        resolve("prolip", None, {"penalty": -0.1})


@pytest.mark.parametrize("frozen_blocks", [0, 1, 9])
def test_mma_has_adapters_in_blocks_that_both_towers_have(frozen_blocks: int, deep: Backbone) -> None:
    method = shaken(built("mma", deep, frozen_blocks=frozen_blocks, scale=0.5, size=3))
    assert method.cut == min(frozen_blocks, 2)
    assert [len(method.shared), len(method.text_up)] == [3 - method.cut] * 2
    cfg = dataclasses.replace(resolve("mma").config, frozen_blocks=frozen_blocks, scale=0.5)
    logits, terms = of_mma(method, deep, cfg, deep)
    classifier = Classifier(deep, method, NAMES)
    torch.testing.assert_close(classifier(states(method, deep)), logits, rtol=1e-9, atol=1e-9)
    ours = gradients(losses(classifier, states(method, deep), LABELS), method)
    torch.testing.assert_close(ours, gradients(terms, method), rtol=1e-9, atol=1e-9)


def test_mma_learns_as_if_its_scale_were_one(deep: Backbone) -> None:
    method, cfg = shaken(built("mma", deep, frozen_blocks=0, scale=0.01)), resolve("mma").config
    cfg = dataclasses.replace(cfg, frozen_blocks=0, scale=0.01)
    _, plain = of_mma(method, deep, cfg, deep, released=False)
    ours = gradients(losses(Classifier(deep, method, NAMES), states(method, deep), LABELS), method)
    torch.testing.assert_close([0.01 * each for each in ours], gradients(plain, method), rtol=1e-9, atol=1e-9)


def test_mma_without_a_scale_is_zero_shot(deep: Backbone) -> None:
    method = shaken(built("mma", deep, scale=0.0))
    logits = Classifier(deep, method, NAMES)(states(method, deep))
    torch.testing.assert_close(logits, zero_shot(deep, "a photo of a {}."), rtol=1e-9, atol=1e-9)


def test_mma_starts_by_what_goes_out(deep: Backbone) -> None:
    method = built("mma", deep, frozen_blocks=0, size=256)
    for layers, out in ((method.shared, 256), (method.text_up, 16), (method.image_down, 256)):
        values = torch.cat([layer.weight.flatten() for layer in layers]).detach()
        assert values.std().item() == pytest.approx((2 / out) ** 0.5, rel=0.05)
        assert not any(layer.bias.any() for layer in layers)


@pytest.mark.parametrize("setting", [{"frozen_blocks": -1}, {"size": 0}, {"scale": -0.1}])
def test_mma_refuses_settings_without_a_meaning(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(setting))} must be at least"):
        resolve("mma", None, setting)


def test_clip_lora_is_zero_shot_at_first(deep: Backbone) -> None:
    method = built("clip-lora", deep)
    assert not method.text_b.any()
    assert not method.image_b.any()
    assert 0.9 / 4 < method.text_a.abs().max() < 1 / 4  # as torch's linear layers of width 16
    logits = Classifier(deep, method, NAMES)(states(method, deep))
    torch.testing.assert_close(logits, zero_shot(deep, "a photo of a {}."), rtol=1e-9, atol=1e-9)


def test_clip_lora_has_no_tower_in_its_state(deep: Backbone) -> None:
    state = built("clip-lora", deep).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "text_a": (4, 3, 2, 16),
        "text_b": (4, 3, 16, 2),
        "image_a": (3, 3, 2, 32),
        "image_b": (3, 3, 32, 2),
    }


def test_clip_lora_drops_inputs_of_every_class_on_its_own(deep: Backbone) -> None:
    """In training no two classes share a token's state; in a test they do, which changes nothing."""
    method = shaken(built("clip-lora", deep)).train()
    seen: list[int] = []
    method.dropout.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    nothing = torch.empty(1, 1, 0, 16).double()
    apart = Classifier(deep, method, NAMES)
    drawn = apart.encode(nothing)
    tokens = sum(len(deep.tokenize(f"a photo of a {name}.")) for name in NAMES)
    assert set(seen) == {tokens}
    twice = Classifier(deep, method, ["dog", "dog"])
    first, second = twice.encode(nothing)[0]
    assert not torch.equal(first, second)
    method.eval()
    seen.clear()
    shared = Classifier(deep, method, NAMES)
    torch.testing.assert_close(shared.encode(nothing), apart.encode(nothing))
    assert seen[0] < seen[-1] == tokens
    assert not torch.equal(shared.encode(nothing), drawn)


def test_clip_loras_dropout_is_that_of_each_projection(deep: Backbone) -> None:
    """One share of the inputs for queries, another for keys, another for values; scaled to the same mean."""
    method = shaken(built("clip-lora", deep, dropout=0.5)).train()
    (change,) = [method.text_changes().blocks[0].qkv]
    a, b = method.text_a[0].detach(), method.text_b[0].detach()
    ones = torch.ones(2000, 16).double()
    drawn = change(ones).detach()
    for part in range(3):
        whole = (b[part] @ a[part] @ ones[0]) / 2**0.5
        own = drawn[:, 16 * part : 16 * part + 16]
        torch.testing.assert_close(own.mean(0), whole, rtol=0.2, atol=0.05 * float(whole.abs().max()))
        kept = torch.linalg.lstsq(b[part], (own * 2**0.5).T).solution  # A x of what was kept
        assert len(kept.T.round(decimals=6).unique(dim=0)) > 100
    assert not torch.equal(method.text_changes().blocks[0].qkv(ones), drawn)
    method.eval()
    torch.testing.assert_close(change(ones)[0, :16], (b[0] @ a[0] @ ones[0]) / 2**0.5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"rank": 0}, "rank must be at least 1"), ({"dropout": 1.0}, "dropout must be from 0 to less than 1")],
)
def test_clip_lora_refuses_settings_without_a_meaning(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve("clip-lora", None, setting)


TWO_STAGES = Recipe(
    steps_per_shot=5,
    first_stage=0.6,
    batch_size=0,
    lr=0.01,
    lr_end=0.001,
    schedule="step",
    optimizer="adamw",
    weight_decay=0.1,
)


@pytest.mark.parametrize("outer_norms", [False, True])
def test_two_stages_are_two_trainings_with_optimisers_of_their_own(outer_norms: bool, deep: Backbone) -> None:
    """Ten full-batch steps: six of the norms of open_clip's towers, then four of a classifier."""
    method = built("two-stage", deep, outer_norms=outer_norms)
    theirs = built("two-stage", deep, outer_norms=outer_norms)
    state = states(method, deep)
    classifier = Classifier(deep, method, NAMES)
    log = fit(classifier, Samples(lambda epoch: state, LABELS), TWO_STAGES, seed=1)
    norms = [value for name, value in theirs.named_parameters() if name != "classifier"]
    model = normed(theirs, deep)
    template = "a photo of a {}."
    expected = descended(norms, 6, lambda: cosines(model, deep, words(deep, model, template)))
    weights = words(deep, model, template).detach().requires_grad_()
    expected += descended([weights], 4, lambda: cosines(model, deep, F.normalize(weights, dim=1)))
    assert log.loss == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(method.classifier, weights, rtol=1e-9, atol=1e-9)
    mine = [value for name, value in method.named_parameters() if name != "classifier"]
    torch.testing.assert_close(mine, norms, rtol=1e-9, atol=1e-9)
    assert len(norms) == 2 * (2 * 3 + 2 * 4) + 6 * outer_norms
    answers = classifier.predict(features(classifier, state))
    torch.testing.assert_close(answers, cosines(model, deep, F.normalize(weights, dim=1)).detach())
    new = Classifier(deep, method, ["violin", "dog"], trained_names=NAMES)
    rows = [deep.tokenize(template.format(name)) for name in ("violin", "dog")]
    tokens = torch.tensor([row + [0] * (deep.context_length - len(row)) for row in rows])
    by_text = cosines(model, deep, F.normalize(model.encode_text(tokens), dim=1))
    torch.testing.assert_close(new.predict(features(new, state)), by_text.detach())
    back = Classifier(deep, method, NAMES[:1:-1], trained_names=NAMES)
    torch.testing.assert_close(back.predict(features(back, state)), answers[:, [3, 2]])


def cosines(model: Any, clip: Backbone, texts: Tensor) -> Tensor:
    return SCALE * F.normalize(model.encode_image(states(Pixels(), clip)), dim=1) @ texts.T


def descended(parameters: list[Tensor], steps: int, logits: Callable[[], Tensor]) -> list[float]:
    """The losses of some steps of torch's AdamW under torch's cosine."""
    optimizer = torch.optim.AdamW(parameters, 0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0.001)
    trace = []
    for _ in range(steps):
        loss = F.cross_entropy(logits(), LABELS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        trace.append(loss.item())
    return trace


@pytest.mark.parametrize("stop_after", [3, 6, 8])
def test_a_training_of_two_stages_goes_on_where_it_was_interrupted(stop_after: int, deep: Backbone) -> None:
    ends = []
    for resume in (False, True):
        method = built("two-stage", deep)
        samples = Samples(lambda epoch, state=states(method, deep): state, LABELS)  # type: ignore[misc]
        reached: list[Any] = []
        fit(
            Classifier(deep, method, NAMES),
            samples,
            TWO_STAGES,
            1,
            lambda epoch, reached=reached: reached.append(epoch.snapshot()),  # type: ignore[misc]
        )
        if resume:
            method = built("two-stage", deep)
            classifier = Classifier(deep, method, NAMES)
            fit(classifier, samples, TWO_STAGES, 1, resume=reached[stop_after - 1])
        ends.append(method.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_one_stage_alone_tunes_the_norms(deep: Backbone) -> None:
    method = built("two-stage", deep)
    state = states(method, deep)
    recipe = dataclasses.replace(TWO_STAGES, first_stage=1.0)
    fit(Classifier(deep, method, NAMES), Samples(lambda epoch: state, LABELS), recipe, seed=1)
    assert not len(method.classifier)
    logits, _ = of_two_stage(method, deep, None, state)
    torch.testing.assert_close(Classifier(deep, method, NAMES)(state), logits)


def test_untrained_two_stages_are_zero_shot(deep: Backbone) -> None:
    method = built("two-stage", deep)
    logits = Classifier(deep, method, NAMES)(states(method, deep))
    torch.testing.assert_close(logits, zero_shot(deep, "a photo of a {}."), rtol=1e-9, atol=1e-9)


def test_a_method_of_one_stage_has_no_second(deep: Backbone) -> None:
    classifier = Classifier(deep, built("clip-lora", deep), NAMES)
    with pytest.raises(UsageError, match="CLIP-LoRA has no second stage: leave first_stage at 1"):
        fit(classifier, Samples(lambda epoch: torch.empty(0), LABELS), TWO_STAGES, seed=1)


def test_steps_are_counted_for_every_shot(deep: Backbone) -> None:
    """Two images of one class and one of each other: two shots, so that six steps are three for each."""
    method = built("clip-lora", deep)
    state = states(method, deep)
    recipe = Recipe(steps_per_shot=3, batch_size=2, schedule="step", lr=1e-3, lr_end=1e-4)
    log = fit(Classifier(deep, method, NAMES), Samples(lambda epoch: state, LABELS), recipe, seed=1)
    assert len(log.loss) == 6
    assert log.lr == pytest.approx([recipe.lr_at_step(step, 6) for step in (0, 2, 4)])


@pytest.mark.parametrize("name", ["prolip", "mma"])
def test_what_is_cached_at_the_cut_gives_the_gradients_of_pixels(name: str, deep: Backbone) -> None:
    method = shaken(built(name, deep))
    reference, _ = REFERENCES[name](method, deep, resolve(name).config, states(method, deep))
    parameters = list(method.parameters())
    ours = Classifier(deep, method, NAMES)(states(method, deep)).sin().sum()
    torch.testing.assert_close(
        torch.autograd.grad(ours, parameters), torch.autograd.grad(reference.sin().sum(), parameters)
    )


@pytest.mark.parametrize(
    ("preset", "recipe", "config"),
    [
        (
            "prolip-released",
            {
                "optimizer": "adam",
                "lr": 1e-5,
                "eps": 1e-4,
                "epochs": 300,
                "batch_size": 0,
                "crop": 0.5,
                "schedule": "step",
                "weight_decay": 0.0,
            },
            {"penalty": None, "power": 1, "templates": ("dataset",)},
        ),
        (
            "mma-released",
            {
                "optimizer": "sgd",
                "lr": 0.0015,
                "epochs": 5,
                "batch_size": 16,
                "warmup_epochs": 0,
                "momentum": 0.9,
                "weight_decay": 5e-4,
            },
            {"frozen_blocks": 4, "size": 32, "scale": 0.001},
        ),
        (
            "clip-lora-released",
            {
                "optimizer": "adamw",
                "lr": 2e-4,
                "lr_end": 1e-6,
                "steps_per_shot": 500,
                "batch_size": 32,
                "weight_decay": 0.01,
                "schedule": "step",
                "crop": 0.08,
            },
            {"rank": 2, "alpha": 1.0, "dropout": 0.25},
        ),
        (
            "two-stage-released",
            {
                "optimizer": "adamw",
                "lr": 2e-4,
                "lr_end": 1e-6,
                "steps_per_shot": 300,
                "first_stage": 0.6,
                "batch_size": 32,
                "weight_decay": 0.01,
                "schedule": "step",
                "crop": 0.08,
            },
            {"outer_norms": False},
        ),
        ("two-stage-paper", {"steps_per_shot": 300}, {"outer_norms": True}),
        ("prolip-few-shot", {"lr": 1e-4, "eps": 1e-4, "epochs": 300}, {"penalty": None}),
    ],
)
def test_released_values(preset: str, recipe: dict[str, Any], config: dict[str, Any]) -> None:
    method = next(name for name in REFERENCES if preset.startswith(name))
    choice = resolve(method, preset)
    assert choice.recipe is not None
    assert recipe.items() <= dataclasses.asdict(choice.recipe).items()
    assert config.items() <= dataclasses.asdict(choice.config).items()


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ({}, "500 steps a shot"),
        ({"epochs": 3}, "3"),
        ({"epochs": 3, "steps_per_shot": 7}, "7 steps a shot"),
        ({"steps_per_shot": 7}, "7 steps a shot"),
    ],
)
def test_epochs_count_in_place_of_the_presets_steps(given: dict[str, int], length: str) -> None:
    recipe = resolve("clip-lora", None, given).recipe
    assert recipe is not None
    assert recipe.length == length


def test_prolip_has_the_seven_templates_on_imagenet() -> None:
    assert resolve("prolip").on("imagenet").config.templates == ("select7",)


def test_mma_has_larger_batches_on_imagenet() -> None:
    recipe = resolve("mma").on("imagenet").recipe
    assert recipe is not None
    assert recipe.batch_size == 128
