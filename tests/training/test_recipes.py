"""What a recipe can ask of the loop, each against a few lines by hand."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cocoop import Backbone, Classifier, CocoopError, UsageError
from cocoop.methods import Facts, Paper
from cocoop.methods._hooks import Bank
from cocoop.methods._parts import Draws, load_learned, pinned
from cocoop.methods._recipe import Recipe
from cocoop.methods.coop import Config as CoOpConfig
from cocoop.methods.coop import Model as CoOp
from cocoop.methods.kgcoop import Config as KgCoOpConfig
from cocoop.methods.kgcoop import Model as KgCoOp
from cocoop.text.prompt import Prompt
from cocoop.training.checkpoint import Snapshot
from cocoop.training.loop import Epoch, batches, fit, train
from cocoop.training.prompt_file import PromptCard, read_prompt, save_prompt
from cocoop.training.samples import Samples
from cocoop.training.start import start_from

NAMES = ["red apple", "green tea", "dog"]
FACTS = Facts("Linear", "is a test", Paper("Linear", "Doe", "ICLR 2099", "2099-01", "https://example.org"))


class Linear(nn.Module):
    """Logits are a learned matrix times the features; a cache, a draw and a log of what it saw."""

    facts = FACTS
    config_type, presets, transferable = dict, {}, False  # type: ignore[var-annotated]

    def __init__(self, backbone: Backbone, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.prompts = (Prompt("a {}."),)
        self.backbone_width = backbone.width
        self.head_weight = nn.Parameter(torch.zeros(len(NAMES), backbone.embed_dim, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(len(NAMES), dtype=dtype))
        self.cache = nn.Buffer(torch.empty(0, backbone.embed_dim))
        self.draws = Draws(3)
        self.seen: list[torch.Tensor] = []

    def forward(self, zimg: torch.Tensor, text: Any = None) -> torch.Tensor:
        return zimg.new_empty(1, 1, 0, self.backbone_width)

    def logits(self, out: Any) -> torch.Tensor:
        if self.training:
            self.seen.append(out.fimg)
        return out.fimg.to(self.bias) @ self.head_weight.T + self.bias

    def fit(self, bank: Bank) -> None:
        self.cache = bank.fimg.mean(0)

    def finish(self, bank: Bank) -> dict[str, Any]:
        return {"images": len(bank.fval)}


@pytest.fixture
def linear(toy: Backbone) -> Classifier:
    return Classifier(toy, Linear(toy), NAMES)  # type: ignore[arg-type]


def features(toy: Backbone, epoch: int = 0, count: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(epoch)
    return 3 * torch.randn(count, toy.embed_dim, generator=generator)


LABELS = torch.arange(12) % 3


def samples(toy: Backbone) -> Samples:
    held = features(toy, 99, 6), torch.arange(6) % 3
    return Samples(lambda epoch: features(toy, epoch), LABELS, lambda selection: held)


def test_a_method_gets_a_bank_of_views_and_says_what_it_selected(toy: Backbone, linear: Classifier) -> None:
    log = fit(linear, samples(toy), Recipe(epochs=0, views=3), seed=1)
    method: Any = linear.method
    expected = torch.stack([features(toy, epoch) for epoch in range(3)]).mean(0)
    assert torch.equal(method.cache, expected)
    assert (log.loss, log.selected) == ([], {"images": 6})
    assert not method.training


def test_steps_that_see_the_bank_alone(toy: Backbone, linear: Classifier) -> None:
    recipe = Recipe(epochs=5, batch_size=4, views=2, from_views=True)
    log = fit(linear, samples(toy), recipe, seed=1)
    assert len(log.loss) == 5 * 3  # as many steps an epoch as there are batches of images, not of views
    known = torch.cat([features(toy, 0), features(toy, 1)])
    seen = torch.cat(linear.method.seen)  # type: ignore[attr-defined]
    place = torch.cdist(seen, known).argmin(1)
    assert torch.equal(known[place], seen)
    assert (place >= 12).any()
    labels = LABELS.repeat(2)[place][:4]
    first = next(batches(24, 4, 1, 0))
    assert torch.equal(labels, LABELS.repeat(2)[first])


def test_a_schedule_by_step_and_a_part_with_a_rate_of_its_own(toy: Backbone, linear: Classifier) -> None:
    recipe = Recipe(
        steps=5, batch_size=4, schedule="step", warmup_steps=2, warmup_lr=0.1, lr=1.0, momentum=0.0,
        weight_decay=0.0, lr_factors={"head": 3.0},
    )  # fmt: skip
    weight, bias = torch.zeros(3, toy.embed_dim).double(), torch.zeros(3).double()
    rates = [0.1, 0.55, 1.0, 0.5 * (1 + math.cos(math.pi / 3)), 0.5 * (1 + math.cos(2 * math.pi / 3))]
    step = 0
    for epoch in range(2):
        for batch in batches(12, 4, 1, epoch):
            if step < 5:
                weight, bias = weight.requires_grad_(), bias.requires_grad_()
                x = features(toy, epoch)[batch].double()
                loss = F.cross_entropy(x @ weight.T + bias, LABELS[batch])
                grads = torch.autograd.grad(loss, [weight, bias])
                weight = (weight - 3 * rates[step] * grads[0]).detach()
                bias = (bias - rates[step] * grads[1]).detach()
                step += 1
    log = fit(linear, samples(toy), recipe, seed=1)
    method: Any = linear.method
    assert len(log.loss) == 5
    assert log.lr == pytest.approx([rates[0], rates[3]])
    assert len(log.epoch_losses) == 2
    torch.testing.assert_close(method.head_weight.detach(), weight, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(method.bias.detach(), bias, rtol=1e-9, atol=1e-9)


def test_a_part_that_is_not_there_has_no_rate(toy: Backbone, linear: Classifier) -> None:
    with pytest.raises(UsageError, match="begins with 'hat'"):
        fit(linear, samples(toy), Recipe(epochs=1, lr_factors={"hat": 2.0}), seed=1)


def test_long_gradients_are_shortened(toy: Backbone, linear: Classifier) -> None:
    recipe = Recipe(epochs=1, batch_size=0, clip=0.5, lr=1.0, warmup_epochs=0, momentum=0.0, weight_decay=0.0)
    fit(linear, samples(toy), recipe, seed=1)
    moved = torch.cat([value.detach().flatten() for value in linear.method.parameters()]).norm()
    assert moved.item() == pytest.approx(0.5, rel=1e-5)


def epochs_of(toy: Backbone, linear: Classifier, recipe: Recipe) -> tuple[list[torch.Tensor], Any, Any]:
    after: list[torch.Tensor] = []
    method: Any = linear.method
    log = fit(
        linear, samples(toy), recipe, 1, lambda epoch: after.append(method.head_weight.detach().clone())
    )
    return after, method.head_weight.detach(), log


def test_the_best_epoch_is_kept(toy: Backbone, linear: Classifier) -> None:
    recipe = Recipe(epochs=6, batch_size=4, lr=0.5, keep="best")
    after, last, log = epochs_of(toy, linear, recipe)
    assert len(log.accuracy) == 6
    best = max(epoch for epoch in range(6) if log.accuracy[epoch] == max(log.accuracy))  # the last of equals
    torch.testing.assert_close(last, after[best])
    held, truth = features(toy, 99, 6).double(), torch.arange(6) % 3
    method: Any = linear.method
    right = ((held @ last.T + method.bias).argmax(1) == truth).double().mean()
    assert right.item() == pytest.approx(max(log.accuracy))
    assert log.selected_on == "few-shot validation, 6 images"


def test_without_validation_images_the_last_epoch_is_kept_and_said(toy: Backbone, linear: Classifier) -> None:
    bare = Samples(lambda epoch: features(toy, epoch), LABELS)
    log = fit(linear, bare, Recipe(epochs=2, batch_size=4, keep="best"), seed=1)
    assert log.accuracy == []
    assert log.selected_on == "nothing, as there are no validation images"


def test_weights_are_averaged_by_a_gaussian_over_epochs(toy: Backbone, linear: Classifier) -> None:
    after, last, _ = epochs_of(toy, linear, Recipe(epochs=5, batch_size=4, lr=0.5, average=(3.0, 1.5)))
    weights = torch.tensor([math.exp(-0.5 * ((epoch - 3) / 1.5) ** 2) for epoch in range(1, 6)]).double()
    expected = sum(w * value for w, value in zip(weights / weights.sum(), after, strict=True))
    torch.testing.assert_close(last, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("ending", [{"keep": "best"}, {"average": (2.0, 1.0)}])
def test_an_interrupted_training_ends_with_the_same_weights(ending: dict, toy: Backbone) -> None:
    recipe = Recipe(epochs=4, batch_size=4, lr=0.5, **ending)
    whole: Any = Classifier(toy, Linear(toy), NAMES)  # type: ignore[arg-type]
    fit(whole, samples(toy), recipe, seed=1)
    taken: list[Snapshot] = []

    def stop(epoch: Epoch) -> None:
        taken.append(epoch.snapshot())
        if epoch.done == 2:
            raise KeyboardInterrupt

    broken: Any = Classifier(toy, Linear(toy), NAMES)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        fit(broken, samples(toy), recipe, 1, stop)
    again: Any = Classifier(toy, Linear(toy), NAMES)  # type: ignore[arg-type]
    log = fit(again, samples(toy), recipe, 1, resume=taken[-1])
    assert len(log.loss) == 12
    for name, value in whole.method.state_dict().items():
        assert torch.equal(again.method.state_dict()[name], value), name


def test_draws_are_new_in_training_and_the_same_elsewhere() -> None:
    draws = Draws(5)
    numbers = [torch.rand(2, generator=draws()) for _ in range(2)]
    assert not torch.equal(*numbers)
    again = Draws(7)
    load_learned(again, {"seed": torch.tensor(5), "count": torch.tensor(1)})
    assert torch.equal(torch.rand(2, generator=again()), numbers[1])  # goes on where it was
    draws.eval()
    assert torch.equal(torch.rand(2, generator=draws()), torch.rand(2, generator=draws()))
    assert not torch.equal(torch.rand(2, generator=Draws(6)()), numbers[0])


def test_terms_of_a_loss_are_written_down(toy: Backbone) -> None:
    method = KgCoOp(KgCoOpConfig(), toy, template="a {}.", n_classes=3, seed=0)
    log = fit(Classifier(toy, method, NAMES), samples(toy), Recipe(epochs=2, batch_size=4), seed=1)
    assert set(log.epoch_terms) == {"cross-entropy", "knowledge"}
    for total, *parts in zip(log.epoch_losses, *log.epoch_terms.values(), strict=True):
        assert total == pytest.approx(sum(parts), rel=1e-5)
    one = fit(
        Classifier(toy, CoOp(CoOpConfig(), toy, template="", n_classes=3, seed=0), NAMES),
        samples(toy), Recipe(epochs=1), seed=1,
    )  # fmt: skip
    assert one.terms == {}


def card(method: str, toy: Backbone, config: Any, names: list[str] = NAMES) -> PromptCard:
    return PromptCard(
        method=method,
        config=dataclasses.asdict(config),
        backbone=toy.name,
        weights=toy.weights_digest,
        template="a photo of a {}.",
        class_names=names,
        seed=1,
    )


def saved(folder: Path, toy: Backbone, names: list[str] = NAMES) -> Path:
    method, made = train(card("coop", toy, CoOpConfig(), names), Recipe(epochs=1), toy, samples(toy))
    save_prompt(folder / "coop.safetensors", method, made)
    return folder / "coop.safetensors"


def test_a_training_starts_from_a_trained_prompt(toy: Backbone, tmp_path: Path) -> None:
    path = saved(tmp_path, toy)
    still = Recipe(epochs=1, warmup_lr=1e-20, weight_decay=0.0, starts_from=str(path))
    csc = CoOpConfig(class_specific=True)
    method, _ = train(card("coop", toy, CoOpConfig()), still, toy, samples(toy))
    assert torch.equal(method.state_dict()["ctx"], read_prompt(path)[1]["ctx"])
    with pytest.raises(UsageError, match=r"it has ctx \(1, 4, \d+\), and coop ctx \(3, 4,"):
        train(card("coop", toy, csc), still, toy, samples(toy))
    other = card("coop", toy, CoOpConfig()).model_copy(update={"weights": "0" * 64})
    with pytest.raises(UsageError, match="whose weights are not those of"):
        start_from(still.starts_from, method, other)


def test_values_of_each_class_start_from_the_same_classes(toy: Backbone, tmp_path: Path) -> None:
    csc = CoOpConfig(class_specific=True)
    method, made = train(card("coop", toy, csc), Recipe(epochs=1), toy, samples(toy))
    save_prompt(tmp_path / "csc.safetensors", method, made)
    recipe = Recipe(epochs=1, starts_from=str(tmp_path / "csc.safetensors"))
    with pytest.raises(UsageError, match="was trained on other class names"):
        train(card("coop", toy, csc, ["cat", "cow", "hen"]), recipe, toy, samples(toy))


def test_a_file_is_what_it_was_when_it_was_used(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("1")
    pin = pinned(str(tmp_path / "a.json"))
    assert pinned(pin) == pin
    (tmp_path / "a.json").write_text("2")
    with pytest.raises(CocoopError, match="was changed since it was used"):
        pinned(pin)
    with pytest.raises(UsageError, match="there is no file"):
        pinned(str(tmp_path / "b.json"))
    assert pinned("") == ""
