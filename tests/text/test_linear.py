"""Linearised text features: the derivative of the exact ones, which they are where they are expanded."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cocoop import Backbone
from cocoop.methods import METHODS, Method, build
from cocoop.methods._hooks import WithHidden
from cocoop.text import TextEncoder
from cocoop.text.linear import Expansion, expand, expansion_bytes
from cocoop.text.prompt import Prompt
from cocoop.text.reference import ReferenceEncoder
from tests.conftest import TOWERS

NAMES = ["red apple", "red car", "red", "dog house", "xylophone", "red apple pie"]
CONDITIONAL = [name for name in METHODS.names() if METHODS.get(name).facts.conditional]


def method_on(backbone: Backbone, name: str = "cocoop") -> Method:
    method = build(name, METHODS.get(name).config_type(), backbone, template="{}", n_classes=2, seed=3)
    generator = torch.Generator().manual_seed(0)
    for parameter in method.double().parameters():  # type: ignore[attr-defined]
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return method


def images(backbone: Backbone, count: int = 3, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(
        torch.randn(count, backbone.embed_dim, dtype=torch.float64, generator=generator), dim=-1
    )


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(sorted(TOWERS)),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=5),
    budget=st.sampled_from([None, 1_500_000]),
)
def test_over_a_small_spread_it_is_the_jacobian_of_the_reference(
    tower: Callable[[str], Backbone], name: str, names: list[str], budget: int | None
) -> None:
    backbone = tower(name)
    method = method_on(backbone)
    assert isinstance(method, WithHidden)
    center = method.hidden(images(backbone))[0].detach()
    encoder = TextEncoder(backbone, method.prompts, names, budget, normalised=False)
    expansion = expand(
        lambda hidden: encoder(method.from_hidden(hidden)), center, torch.full_like(center, 1e-5)
    )
    reference = ReferenceEncoder(backbone, method.prompts[0], names)

    def features(hidden: torch.Tensor) -> torch.Tensor:
        return reference(method.from_hidden(hidden[None]))[0]

    jacobian = torch.autograd.functional.jacobian(features, center)
    normal = F.normalize(expansion.terms[..., 0], dim=-1)
    torch.testing.assert_close(normal, features(center).detach(), rtol=1e-8, atol=1e-9)
    # the reference's features have unit length: what moves them is across them
    across = expansion.terms[..., 1:] / expansion.terms[..., :1].norm(dim=1, keepdim=True)
    across = across - normal[..., None] * (normal[..., None] * across).sum(1, keepdim=True)
    torch.testing.assert_close(across, jacobian, rtol=1e-6, atol=1e-8)


def test_of_a_quadratic_function_the_mean_and_the_slopes_are_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    constant, slopes, curves = (
        torch.randn(2, 3, *shape, dtype=torch.float64, generator=generator) for shape in ((), (4,), (4, 4))
    )
    center, spread = torch.randn(2, 4, dtype=torch.float64, generator=generator).abs()
    spread[0] = 0.0  # a number that is the same for all images

    def features(hidden: torch.Tensor) -> torch.Tensor:
        return (
            constant
            + torch.einsum("bi,cdi->bcd", hidden, slopes)
            + torch.einsum("bi,bj,cdij->bcd", hidden, hidden, curves)
        )

    expansion = expand(features, center, spread)
    squares = torch.einsum("i,cdii->cd", spread**2, curves)  # of independent numbers with this spread
    mean = features(center[None])[0] + squares
    torch.testing.assert_close(expansion.terms[..., 0], mean, rtol=1e-9, atol=1e-12)
    gradient = slopes + torch.einsum("j,cdij->cdi", center, curves + curves.mT)
    torch.testing.assert_close(expansion.terms[..., 1:], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("center", [0.0, 3.0])
def test_without_any_spread_there_are_slopes_all_the_same(center: float) -> None:
    weights = torch.tensor([2.0, -1.0], dtype=torch.float64)
    expansion = expand(
        lambda hidden: (hidden @ weights)[:, None, None],
        torch.full_like(weights, center),
        torch.zeros(2).double(),
    )
    torch.testing.assert_close(expansion.terms[0, 0], torch.tensor([center, 2.0, -1.0]).double())


def test_the_cosine_needs_no_text_feature_of_an_image() -> None:
    terms = torch.randn(5, 16, 4, dtype=torch.float64)
    expansion = Expansion(torch.randn(3, dtype=torch.float64), terms)
    zimg, hidden = F.normalize(torch.randn(7, 16).double(), dim=-1), torch.randn(7, 3).double()
    naive = torch.stack(
        [
            (terms[..., 0] + terms[..., 1:] @ (h - expansion.center))
            @ z
            / (terms[..., 0] + terms[..., 1:] @ (h - expansion.center)).norm(dim=1)
            for z, h in zip(zimg, hidden, strict=True)
        ]
    )
    torch.testing.assert_close(expansion.cosine(zimg, hidden), naive, rtol=1e-9, atol=1e-12)
    again = F.normalize(expansion.features(hidden), dim=-1)
    torch.testing.assert_close(torch.einsum("bd,bcd->bc", zimg, again), naive, rtol=1e-9, atol=1e-12)


def test_some_classes_of_each_image(
    tower: Callable[[str], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoop.text.encoder.PAIRS_AT_ONCE", 4)  # several trees
    backbone = tower("clip-gelu-deep")
    contexts = torch.randn(5, 1, 4, backbone.width, dtype=torch.float64)
    encoder = TextEncoder(backbone, [Prompt("a photo of a {}.", 4)], NAMES)
    classes = torch.tensor([[0, 1], [5, 2], [2, 5], [3, 3], [4, 0]])
    every = encoder(contexts)
    expected = torch.stack([every[image, labels] for image, labels in enumerate(classes)])
    torch.testing.assert_close(encoder.some(contexts, classes), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_contexts_are_affine_in_the_hidden_vector(tower: Callable[[str], Backbone], name: str) -> None:
    method = method_on(tower("clip-gelu-deep"), name)
    if not isinstance(method, WithHidden):
        assert method.facts.ablation or method.facts.sees_test_images
        return
    zimg = images(tower("clip-gelu-deep"), 4)
    hidden = method.hidden(zimg)
    torch.testing.assert_close(method.from_hidden(hidden), method(zimg), rtol=0, atol=0)
    one, two, *_ = hidden
    between = method.from_hidden((0.3 * one + 0.7 * two)[None])
    mixed = 0.3 * method.from_hidden(one[None]) + 0.7 * method.from_hidden(two[None])
    torch.testing.assert_close(between, mixed, rtol=1e-9, atol=1e-12)


def test_the_size_is_that_of_what_is_kept() -> None:
    expansion = Expansion(torch.zeros(3), torch.zeros(5, 16, 4))
    assert expansion_bytes(5, 16, 3) == expansion.terms.nbytes + expansion._gram.nbytes
