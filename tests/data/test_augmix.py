"""AugMix and the views by which methods look at a test image."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode, v2

from cocoop.data import augmix as module
from cocoop.data.augmix import ALTERATIONS, augmix
from cocoop.data.transforms import Preprocess
from cocoop.data.views import ImageViews, View
from cocoop.errors import UsageError
from cocoop.utils.seeding import seeded

PIXELS = Preprocess(24, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
IMAGE = Image.fromarray(NOISE)
SMALL = Image.fromarray(NOISE[:24, :24])


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1) / 255


def test_copies_that_are_not_altered_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALTERATIONS", (lambda image, strength, sign: image,))
    torch.testing.assert_close(augmix(SMALL, tensor, 3), tensor(SMALL))


def test_the_image_keeps_a_part_and_the_copies_have_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    black = Image.new("RGB", SMALL.size)
    monkeypatch.setattr(module, "ALTERATIONS", (lambda image, strength, sign: black,))
    shares = []
    for seed in range(200):
        mixed = augmix(SMALL, tensor, seed)
        share = (mixed.sum() / tensor(SMALL).sum()).item()
        torch.testing.assert_close(mixed, share * tensor(SMALL))
        shares.append(share)
    assert 0 < min(shares) < 0.05 < 0.95 < max(shares) < 1  # uniform, as Beta(1, 1) is
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)


def test_one_to_three_alterations_of_weak_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, int]] = []

    def noted(image: Image.Image, strength: float, sign: int) -> Image.Image:
        drawn.append((strength, sign))
        return image

    monkeypatch.setattr(module, "ALTERATIONS", (noted,))
    counts = set()
    for seed in range(60):
        before = len(drawn)
        augmix(SMALL, tensor, seed)
        counts.add(len(drawn) - before)
    assert counts == {3, 4, 5, 6, 7, 8, 9}
    strengths, signs = zip(*drawn, strict=True)
    assert 0.01 <= min(strengths) < 0.02 < 0.09 < max(strengths) <= 0.1
    assert set(signs) == {-1, 1}


def test_alterations_are_those_of_augmix() -> None:
    strength, sign = 0.09, -1
    affine, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    expected = [
        ImageOps.autocontrast(IMAGE),
        ImageOps.equalize(IMAGE),
        ImageOps.posterize(IMAGE, 4),
        IMAGE.rotate(-2, bilinear),
        ImageOps.solarize(IMAGE, 256 - 23),
        IMAGE.transform(IMAGE.size, affine, (1, -0.027, 0, 0, 1, 0), bilinear),
        IMAGE.transform(IMAGE.size, affine, (1, 0, 0, -0.027, 1, 0), bilinear),
        IMAGE.transform(IMAGE.size, affine, (1, 0, -1, 0, 1, 0), bilinear),
        IMAGE.transform(IMAGE.size, affine, (1, 0, 0, 0, 1, -1), bilinear),
    ]
    altered = [alter(IMAGE, strength, sign) for alter in ALTERATIONS]
    for ours, theirs in zip(altered, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_a_look_is_a_bilinear_crop_and_a_flip() -> None:
    (ours,) = PIXELS.batch([IMAGE], View((11,), look="crop"))
    plain = v2.Compose(
        [
            v2.RandomResizedCrop(24, interpolation=InterpolationMode.BILINEAR),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]),
        ]
    )
    with seeded(11):
        torch.testing.assert_close(ours, plain(IMAGE))
    assert not torch.allclose(ours, PIXELS.train(IMAGE, 11))  # training crops are bicubic
    (mixed,) = PIXELS.batch([IMAGE], View((11,), look="augmix"))
    assert mixed.dtype == torch.float32
    assert not torch.allclose(ours, mixed)
    assert torch.equal(mixed, PIXELS.batch([IMAGE], View((11,), look="augmix"))[0])


def test_a_test_image_is_seen_at_least_once() -> None:
    with pytest.raises(UsageError, match="at least 1 view"):
        ImageViews(0)


def test_looks_have_names_of_their_own_in_the_cache() -> None:
    views = [View((1,)), View((1,), look="crop"), View((1,), look="augmix"), View((2,), look="augmix")]
    assert len({view.key for view in views}) == 4
    assert views[0].key == "View(seeds=(1,), crop=0.08, mirrored=False)"  # as it was before there were looks
