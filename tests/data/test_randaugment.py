"""RandAugment as Dassl has it: sixteen alterations at a third of their ranges, two of them in a row."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import InterpolationMode, v2

from cocoop.data import randaugment as module
from cocoop.data.randaugment import ALTERATIONS, randaugment
from cocoop.data.transforms import Preprocess
from cocoop.data.views import View, training_view

NOISE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
IMAGE = Image.fromarray(NOISE)
PIXELS = Preprocess(24, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


class Drawn(np.random.Generator):
    """Draws what it is told to, as shares of the range."""

    def __init__(self, *values: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.values = list(values)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:  # type: ignore[override]
        return low + self.values.pop(0) * (high - low)


def moved(*affine: float) -> Image.Image:
    return IMAGE.transform(IMAGE.size, Image.Transform.AFFINE, affine)


def cut_out(left: int, top: int, right: float, bottom: float) -> Image.Image:
    pixels = np.array(IMAGE)
    pixels[top : int(bottom) + 1, left : int(right) + 1] = (125, 123, 114)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("sign", [-1, 1])
def test_alterations_at_a_third_of_their_ranges(sign: int) -> None:
    brighter = np.minimum(255, NOISE.astype(int) + 36)
    expected = [
        ImageOps.autocontrast(IMAGE),
        ImageOps.equalize(IMAGE),
        Image.fromarray(255 - NOISE),
        IMAGE.rotate(10 * sign),
        Image.fromarray(NOISE & 0b11111000),
        Image.fromarray(np.where(NOISE < 256 / 3, NOISE, 255 - NOISE).astype(np.uint8)),
        Image.fromarray(np.where(brighter < 128, brighter, 255 - brighter).astype(np.uint8)),
        *(
            kind(IMAGE).enhance(0.7)
            for kind in (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness)
        ),
        ImageEnhance.Sharpness(IMAGE).enhance(0.7),
        moved(1, 0.1 * sign, 0, 0, 1, 0),
        moved(1, 0, 0, 0.1 * sign, 1, 0),
        cut_out(105, 217, 105 + 40 / 3, 224) if sign > 0 else cut_out(0, 49, 40 / 3, 49 + 40 / 3),
        moved(1, 0, sign * 100 / 3, 0, 1, 0),
        moved(1, 0, 0, 0, 1, sign * 100 / 3),
    ]
    places = (0.5, 1.0) if sign > 0 else (0.01, 0.25)
    assert len(ALTERATIONS) == len(expected)
    for number, (alter, theirs) in enumerate(zip(ALTERATIONS, expected, strict=True)):
        values = places if number == 13 else (0.1 if sign > 0 else 0.9,)
        ours = alter(IMAGE, Drawn(*values))
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), str(number))


def test_two_in_a_row_are_drawn_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[int] = []

    def note(number: int) -> module.Alteration:
        return lambda image, drawn: (noted.append(number), image)[1]

    monkeypatch.setattr(module, "ALTERATIONS", tuple(map(note, range(16))))
    pairs = []
    for seed in range(400):
        randaugment(IMAGE, seed)
        pairs.append(tuple(noted))
        noted.clear()
    assert {len(pair) for pair in pairs} == {2}
    assert {number for pair in pairs for number in pair} == set(range(16))
    assert any(first == second for first, second in pairs)
    randaugment(IMAGE, 7)
    assert tuple(noted) == pairs[7]


def test_the_view_is_the_whole_image_and_not_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Image.fromarray(NOISE[:40, :90])
    (view,) = (training_view(3, 0, 1, "randaugment"),)
    altered = PIXELS.batch([wide], view)
    assert torch.equal(altered, PIXELS.batch([wide], training_view(3, 0, 1, "randaugment")))
    assert not torch.equal(altered, PIXELS.batch([wide], training_view(3, 1, 1, "randaugment")))
    monkeypatch.setattr(module, "ALTERATIONS", (lambda image, drawn: image,))
    plain = v2.Compose(
        [
            v2.Resize((24, 24), interpolation=InterpolationMode.BICUBIC),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]),
        ]
    )
    torch.testing.assert_close(PIXELS.batch([wide], view)[0], plain(wide))
    assert view.key not in {View(view.seeds).key, View(view.seeds, look="augmix").key}
