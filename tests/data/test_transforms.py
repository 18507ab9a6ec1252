"""The pixels a backbone sees, pinned: by stored values, and by the transforms that the released code uses."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from cocoop.data.transforms import Preprocess, crop_of
from cocoop.data.views import View
from cocoop.utils.seeding import seeded

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PLAIN = Preprocess(4, (0.0,) * 3, (1.0,) * 3)

# green, the ramp from top to bottom, is left out; levels of 255, of red (a ramp from left to right) and blue
# (fine stripes, where kernels and antialiasing differ), at size 4
STORED = {
    "test": (
        [25, 74, 128, 181],
        [[116, 127, 125, 125], [125, 123, 123, 120], [122, 123, 126, 116], [125, 131, 129, 124]],
    ),
    3: (
        [235, 223, 209, 196],
        [[80, 170, 186, 159], [134, 108, 126, 100], [133, 129, 127, 114], [152, 106, 131, 93]],
    ),
    4: (
        [186, 145, 100, 59],
        [[119, 124, 127, 127], [117, 125, 118, 122], [113, 126, 125, 123], [124, 128, 129, 133]],
    ),
}


def picture(width: int = 53, height: int = 37) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    ramps = [x * 255 / (width - 1), y * 255 / (height - 1), (x * x * 3 + y * y * 5) % 256]
    return Image.fromarray(np.stack(ramps, -1).round().astype(np.uint8))


def levels(view: torch.Tensor) -> torch.Tensor:
    return (view * 255).round().int()


def near(view: torch.Tensor, stored: tuple[list[int], list[list[int]]]) -> bool:
    """Whether a view has the stored values, give or take what versions of the resizing code may differ."""
    red, _, blue = levels(view)
    ramp, stripes = (torch.tensor(values) for values in stored)
    return bool(((red - ramp).abs() <= 2).all() and ((blue - stripes).abs() <= 2).all())


def test_stored_views() -> None:
    assert near(PLAIN.test(picture()), STORED["test"])
    for seed in (3, 4):
        assert near(PLAIN.train(picture(), seed), STORED[seed])


@pytest.mark.parametrize("change", [{"interpolation": "bilinear"}, {"resize_mode": "squash"}])
def test_the_stored_values_tell_other_transforms_apart(change: dict[str, str]) -> None:
    other = Preprocess(PLAIN.size, PLAIN.mean, PLAIN.std, **change)
    assert not near(other.test(picture()), STORED["test"])


def released(train: bool, size: int = 24) -> v1.Compose:
    """The transforms of the released code, on Pillow images."""
    bicubic = v1.InterpolationMode.BICUBIC
    if train:
        first = [
            v1.RandomResizedCrop(size, scale=(0.08, 1.0), interpolation=bicubic),
            v1.RandomHorizontalFlip(),
        ]
    else:
        first = [v1.Resize(size, interpolation=bicubic), v1.CenterCrop((size, size))]
    return v1.Compose([*first, v1.ToTensor(), v1.Normalize(MEAN, STD)])


@pytest.mark.parametrize("shape", [(53, 37), (37, 53), (24, 24), (200, 30), (9, 11)])
def test_views_are_those_of_the_released_code(shape: tuple[int, int]) -> None:
    ours = Preprocess(24, MEAN, STD)
    torch.testing.assert_close(ours.test(picture(*shape)), released(train=False)(picture(*shape)))
    for seed in range(8):
        with seeded(seed):
            theirs = released(train=True)(picture(*shape))
        torch.testing.assert_close(ours.train(picture(*shape), seed), theirs)


@pytest.mark.parametrize("least", [0.08, 0.5, 1.0])
def test_crops_are_those_that_torchvision_draws(least: float) -> None:
    crop = v2.RandomResizedCrop(24, scale=(least, 1.0))
    sizes = [(53, 37), (7, 300), (300, 7), (1, 1), (2, 3), (4, 3), (3, 4)]
    for seed, (width, height) in enumerate(sizes * 20):
        with seeded(seed):
            theirs = crop.make_params([torch.zeros(3, height, width)])
        ours = crop_of(width, height, least, torch.Generator().manual_seed(seed))
        assert dict(zip(("top", "left", "height", "width"), ours, strict=True)) == theirs


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_is_its_views_one_by_one_whatever_the_threads(threads: int) -> None:
    pictures = [picture(40 + number, 60 - number) for number in range(12)]
    seeds, before = tuple(range(12)), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        views = PLAIN.batch(range(12), View(seeds, 0.3), pictures.__getitem__)
    finally:
        torch.set_num_threads(before)
    single = [PLAIN.train(image, seed, 0.3) for image, seed in zip(pictures, seeds, strict=True)]
    assert torch.equal(views, torch.stack(single))
    with pytest.raises(ValueError, match="12 images and 2 seeds"):
        PLAIN.batch(pictures, View((1, 2)))


def test_views_leave_the_generator_of_torch_alone() -> None:
    before = torch.get_rng_state()
    PLAIN.train(picture(), 3)
    assert torch.equal(torch.get_rng_state(), before)
