"""Images to the tensors a backbone takes: CLIP's test transform and the few-shot training augmentation."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from cocoop.data.augmix import augmix
from cocoop.data.randaugment import randaugment
from cocoop.data.views import FLIP, SCALE, TEST, View
from cocoop.errors import CocoopError
from cocoop.utils.seeding import checked

RATIO = (3 / 4, 4 / 3)  # of the width to the height of a training crop, from and to
LOG_RATIO = torch.tensor(RATIO).log().tolist()
TRIES = 10  # draws of a crop
Source = TypeVar("Source")


@dataclass(frozen=True)
class Preprocess:
    """The pixels a backbone expects.

    Attributes:
        size: edge of a square input in pixels, or height and width.
        mean: of the RGB channels, on the scale [0, 1].
        std: of the RGB channels, on the same scale.
        interpolation: "bicubic" as in CLIP, or "bilinear".
        resize_mode: of test images: "shortest" edge to `size` and a centre crop, as in CLIP, or "squash".
        resize: what test images are resized to before the crop, where that is not `size`.
    """

    size: int | tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    resize: int | tuple[int, int] | None = None

    @property
    def edges(self) -> tuple[int, int]:
        """Height and width of the input."""
        return _edges(self.size)

    def __post_init__(self) -> None:
        if self.resize_mode not in ("shortest", "squash"):
            raise CocoopError(f"the backbone resizes images by {self.resize_mode!r}, which is not supported")

    def test(self, image: Image.Image) -> Float[Tensor, "3 h w"]:
        """Resize, centre crop, normalise."""
        return self.batch([image])[0]

    def train(self, image: Image.Image, seed: int, crop: float = SCALE[0]) -> Float[Tensor, "3 h w"]:
        """Random resized crop (scale `crop` to 1), random flip, normalise; drawn from `seed`."""
        return self.batch([image], View((seed,), crop))[0]

    def batch(
        self,
        images: Sequence[Source],
        view: View = TEST,
        read: Callable[[Source], Image.Image] = lambda image: image,  # type: ignore[assignment,return-value]
    ) -> Float[Tensor, "b 3 h w"]:
        """Return a view of every image, read and cut by as many threads as torch computes with.

        Args:
            images: in any form that `read` takes.
            view: which view of each.
            read: gives the Pillow image.
        """

        def cut(source: Source, seed: int | None) -> Tensor:
            image = read(source)
            if seed is None:
                return _pixels(self._test(image))
            if view.look == "training":
                return _pixels(self._augmented(image, seed, view.crop))
            if view.look == "randaugment":
                return _pixels(randaugment(self._squashed(image), seed))
            return self._look(image, seed, view.look == "augmix")

        seeds = view.seeds or [None] * len(images)
        if len(seeds) != len(images):
            raise ValueError(f"{len(images)} images and {len(seeds)} seeds")
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            views = torch.stack(list(pool.map(cut, images, seeds)))
        views = views if views.is_floating_point() else self._normalised(views)
        return views.flip(-1) if view.mirrored else views

    def _look(self, image: Image.Image, seed: int, mixed: bool) -> Float[Tensor, "3 h w"]:
        """Return a random view of a test image, as TPT draws it: its crops are bilinear."""
        small = self._augmented(image, seed, SCALE[0], InterpolationMode.BILINEAR)
        return augmix(small, self._tensor, seed) if mixed else self._tensor(small)

    def _squashed(self, image: Image.Image) -> Image.Image:
        return _resized(self.edges, InterpolationMode(self.interpolation), True, image)

    def _tensor(self, image: Image.Image) -> Float[Tensor, "3 h w"]:
        return self._normalised(_pixels(image))

    def _augmented(
        self, image: Image.Image, seed: int, least: float, interpolation: InterpolationMode | None = None
    ) -> Image.Image:
        draw = torch.Generator().manual_seed(checked(seed))
        place = crop_of(image.width, image.height, least, draw)
        size = list(self.edges)
        cropped = F.resized_crop(image, *place, size, interpolation or InterpolationMode(self.interpolation))
        return F.horizontal_flip(cropped) if torch.rand(1, generator=draw) < FLIP else cropped

    def _normalised(self, pixels: UInt8[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
        return F.normalize(F.to_dtype(pixels, torch.float32, scale=True), list(self.mean), list(self.std))

    @cached_property
    def _test(self) -> v2.Compose:
        edges = _edges(self.size if self.resize is None else self.resize)
        resize = partial(_resized, edges, InterpolationMode(self.interpolation), self.resize_mode == "squash")
        return v2.Compose([resize, v2.CenterCrop(self.edges)])


def crop_of(width: int, height: int, least: float, draw: torch.Generator) -> tuple[int, int, int, int]:
    """Draw the crop that torchvision's `RandomResizedCrop` draws from a generator of the same state.

    That one knows torch's global generator only; seeding and restoring it takes longer than the view.

    Returns:
        Top, left, height and width, in pixels.
    """
    for _ in range(TRIES):
        area = width * height * torch.empty(1).uniform_(least, SCALE[1], generator=draw).item()
        ratio = torch.empty(1).uniform_(*LOG_RATIO, generator=draw).exp().item()
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (1,), generator=draw))
            return top, int(torch.randint(width - w + 1, (1,), generator=draw)), h, w
    w = min(width, round(height * RATIO[1]))  # the largest in the middle, if no draw fits a narrow image
    h = min(height, round(width / RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def _pixels(image: Image.Image) -> UInt8[Tensor, "3 h w"]:
    return F.pil_to_tensor(image).contiguous()


def _resized(
    edges: tuple[int, int], interpolation: InterpolationMode, squash: bool, image: Image.Image
) -> Image.Image:
    """Resize an image to height and width, or so that it covers them."""
    if squash:
        size = edges
    else:
        height, width = image.height, image.width
        over, under = max((edges[0], height), (edges[1], width), key=lambda pair: pair[0] / pair[1])
        size = (int(height * over / under), int(width * over / under))
    resized: Image.Image = F.resize(image, list(size), interpolation=interpolation)
    return resized


def _edges(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a size, of which one may stand for both."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
