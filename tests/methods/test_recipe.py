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
