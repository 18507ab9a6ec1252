"""What is tuned inside the towers without prompts, is its formula: by open_clip's own modules, in fp64."""

import dataclasses
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocoop import Backbone
from cocoop.backbones.vision import Cut
from cocoop.errors import UsageError
from cocoop.methods import build
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import resolve
from cocoop.training.classifier import Classifier
from cocoop.training.loop import fit
from cocoop.training.samples import Samples
from cocoop.training.step import losses
from tests.conftest import make_tower
from tests.methods.banks import states

NAMES = ["red apple", "green tea", "dog", "dog house"]
TEMPLATE = "a type of pet, a photo of a {}."
LABELS = torch.tensor([0, 3, 1, 2, 3])
SCALE = 100.0

Terms = dict[str, Tensor]


class Pixels:
    """A method whose images are their pixels: the ones of which every other has its states."""

    cut: Cut = "pixels"

    def image(self, state: Tensor, tower: Any) -> Tensor:
        return state


@pytest.fixture(scope="module")
def deep() -> Backbone:
    clip = make_tower("clip-gelu-deep")
    clip.logit_scale = SCALE
    return clip


def built(name: str, clip: Backbone, seed: int = 0, **settings: Any) -> Any:
    cfg = dataclasses.replace(resolve(name).config, **settings)
    method: Any = build(name, cfg, clip, template=TEMPLATE, n_classes=len(NAMES), seed=seed)
    return method.double()


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


REFERENCES = {"prolip": of_prolip}


def state_of(clip: Backbone) -> Tensor:
    return states(Pixels(), clip)


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


@pytest.mark.parametrize("name", ["prolip"])
def test_what_is_cached_at_the_cut_gives_the_gradients_of_pixels(name: str, deep: Backbone) -> None:
    method = shaken(built(name, deep))
    reference, _ = REFERENCES[name](method, deep, None, states(method, deep))
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
        ("prolip-few-shot", {"lr": 1e-4, "eps": 1e-4, "epochs": 300}, {"penalty": None}),
    ],
)
def test_released_values(preset: str, recipe: dict[str, Any], config: dict[str, Any]) -> None:
    method = next(name for name in REFERENCES if preset.startswith(name))
    choice = resolve(method, preset)
    assert choice.recipe is not None
    assert recipe.items() <= dataclasses.asdict(choice.recipe).items()
    assert config.items() <= dataclasses.asdict(choice.config).items()


def test_prolip_has_the_seven_templates_on_imagenet() -> None:
    assert resolve("prolip").on("imagenet").config.templates == ("select7",)
