import pytest
import torch

from cocoop.errors import UsageError
from cocoop.methods._recipe import Recipe
from cocoop.methods._settings import all_presets

# learning rates of the released code, epoch by epoch
PAPER = [1e-5, 2.0e-3, 1.9511e-3, 1.8090e-3, 1.5878e-3, 1.3090e-3, 1.0e-3, 6.9098e-4, 4.1221e-4, 1.9098e-4]


def test_the_papers_schedule() -> None:
    assert [Recipe(epochs=10).lr_at(epoch) for epoch in range(10)] == pytest.approx(PAPER, rel=3e-5)


@pytest.mark.parametrize(("epochs", "last"), [(50, 7.885e-6), (200, 4.934e-7)])
def test_the_last_rate_is_not_zero(epochs: int, last: float) -> None:
    assert Recipe(epochs=epochs).lr_at(epochs - 1) == pytest.approx(last, rel=1e-3)


def test_paper_presets() -> None:
    _, cocoop = all_presets()["cocoop-paper"]
    _, coop = all_presets()["coop-paper"]
    recipe = cocoop.recipe
    assert recipe is not None
    assert coop.recipe is not None
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.warmup_epochs) == (10, 1, 0.002, 1)
    assert (recipe.momentum, recipe.weight_decay, recipe.warmup_lr) == (0.9, 5e-4, 1e-5)
    assert (coop.recipe.epochs, coop.recipe.batch_size, coop.recipe.lr) == (200, 32, 0.002)
    assert cocoop.config.ctx_init == coop.config.ctx_init == "a photo of a"


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": -1},
        {"batch_size": -1},
        {"views": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"crop": 0.0},
        {"beta2": 1.0},
        {"crop": 1.1},
        {"steps": 3},
        {"steps_per_shot": 3},
        {"steps_per_shot": -3, "schedule": "step"},
        {"steps_per_shot": 3, "steps": 3, "schedule": "step"},
        {"lr_end": -1e-6},
        {"first_stage": 0.0, "schedule": "step"},
        {"first_stage": 1.1, "schedule": "step"},
        {"first_stage": 0.5},
        {"first_stage": 0.5, "schedule": "step", "keep": "best"},
        {"lr_end": 0.1},
        {"classes_per_step": 1},
        {"classes_per_step": -5},
        {"average": (1.0, 0.0)},
        {"average": (1.0, 1.0), "keep": "best"},
        {"starts_from": "no-such-file"},
    ],
)
def test_impossible_recipes(bad: dict) -> None:
    with pytest.raises(UsageError):
        Recipe(**bad)


def test_steps_for_every_shot() -> None:
    recipe = Recipe(steps_per_shot=5, batch_size=4, schedule="step", epochs=7)
    assert recipe.learns
    assert recipe.length == "5 steps a shot"
    assert recipe.all_steps(images=22, shots=3) == 15
    assert recipe.all_epochs(images=22, shots=3) == 3  # of five batches each
    assert recipe.all_epochs(images=9, shots=3) == 8
    assert Recipe(steps=5, batch_size=4, schedule="step").all_steps(images=22, shots=3) == 5
    assert Recipe(epochs=2, batch_size=4).all_steps(images=22, shots=3) == 10


def test_the_cosine_ends_where_it_is_told_to() -> None:
    """Of the released schedule: torch's own, step by step."""
    recipe = Recipe(steps_per_shot=1, schedule="step", lr=2e-4, lr_end=1e-6)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 2e-4)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=1e-6)
    for step in range(10):
        assert recipe.lr_at_step(step, 10) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()
    by_epoch = Recipe(epochs=4, warmup_epochs=0, lr=1.0, lr_end=0.5)
    assert [by_epoch.lr_at(epoch) for epoch in (0, 2)] == [1.0, 0.75]


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_the_decay_of_the_mean_square(optimizer: str) -> None:
    """Two steps along gradients 1 and 3, by hand."""
    recipe = Recipe(optimizer=optimizer, lr=0.1, beta2=0.5, weight_decay=0.0)  # type: ignore[arg-type]
    value = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    stepper = recipe.optimizer_of([("value", value)])
    expected, mean, square = 0.0, 0.0, 0.0
    for step, gradient in enumerate((1.0, 3.0), 1):
        value.grad = torch.full_like(value, gradient)
        stepper.step()
        mean, square = 0.9 * mean + 0.1 * gradient, 0.5 * square + 0.5 * gradient**2
        expected -= 0.1 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.5**step)) ** 0.5 + 1e-8)
    assert value.item() == pytest.approx(expected, rel=1e-9)
