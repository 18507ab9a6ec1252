"""Images to features of the frozen image tower, in batches; with a cache each list is encoded once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from cocoop.backbones.cache import FeatureCache, content_digests
from cocoop.backbones.clip import Backbone
from cocoop.data.dataset import Item
from cocoop.data.decode import Decode, open_image, to_image
from cocoop.data.storage import Root, open_storage
from cocoop.data.verify import all_or_nothing
from cocoop.utils.files import digest

BATCH = 256
Progress = Callable[[int], None]  # called with the number of images just encoded
Source = TypeVar("Source")  # what an image is read from


@dataclass(frozen=True)
class ImageEncoder:
    """Encodes lists of a dataset's images with one backbone, through one cache.

    Args:
        backbone: the frozen CLIP.
        cache: where features are kept; None computes them each time.
        decode: how image files become pixels, where the dataset has a way of its own.
    """

    backbone: Backbone
    cache: FeatureCache | None = None
    decode: Decode | None = None

    def test(
        self, root: Root, items: Sequence[Item], progress: Progress | None = None
    ) -> Float[Tensor, "n d"]:
        """Encode the test views of `items` to L2-normalised features."""
        with all_or_nothing(root, items, self.decode):
            return self._encode(root, items, None, progress)

    def train(
        self, root: Root, items: Sequence[Item], epoch: int, seed: int, progress: Progress | None = None
    ) -> Float[Tensor, "n d"]:
        """Encode one augmented view of each item: those of one epoch of the run with this seed.

        Augmentation does not depend on the learned weights, so a view drawn ahead has the same pixels as
        one drawn in the training loop. A view depends on (seed, epoch, place in `items`) alone.
        """
        with all_or_nothing(root, items, self.decode):
            return self._encode(root, items, view_seeds(seed, epoch, len(items)), progress)

    def _encode(
        self, root: Root, items: Sequence[Item], seeds: list[int] | None, progress: Progress | None
    ) -> Float[Tensor, "n d"]:
        paths = [item.path for item in items]
        read = partial(open_image, root, decode=self.decode)
        if self.cache is None:
            return encode_images(self.backbone, paths, seeds, read, progress)
        key = self._key(content_digests(self.cache, open_storage(root), paths), seeds)
        if (kept := self.cache.get(key)) is not None:
            if progress:
                progress(len(items))
            return kept
        features = encode_images(self.backbone, paths, seeds, read, progress)
        self.cache.put(key, features)
        return features

    def _key(self, contents: list[str], seeds: list[int] | None) -> str:
        view = "test" if seeds is None else f"train {seeds}"
        view += f" {self.decode.__name__}" if self.decode else ""
        clip = self.backbone
        return digest(clip.weights_digest, clip.precision, repr(clip.preprocess), view, *contents)


def encode_images(
    backbone: Backbone,
    images: Sequence[Source],
    seeds: Sequence[int] | None = None,
    read: Callable[[Source], Image.Image] = to_image,
    progress: Progress | None = None,
) -> Float[Tensor, "n d"]:
    """Encode images, from files or memory, to L2-normalised features.

    Args:
        backbone: the frozen CLIP.
        images: n images in any form that `read` takes.
        seeds: of one augmented view of each, as `view_seeds` gives them; None encodes the test views.
        read: gives the Pillow image; each is read when its batch is encoded.
        progress: called after every batch.

    Raises:
        CocoopError: an image cannot be read.
    """
    parts = [torch.empty(0, backbone.embed_dim)]
    for start in range(0, len(images), BATCH):
        batch = slice(start, start + BATCH)
        views = backbone.preprocess.batch(map(read, images[batch]), None if seeds is None else seeds[batch])
        parts.append(backbone.encode_image(views))
        if progress:
            progress(len(views))
    return torch.cat(parts)


def view_seeds(seed: int, epoch: int, count: int) -> list[int]:
    """Seeds of the augmented views of one epoch: a pure function of run seed, epoch and place."""
    return np.random.SeedSequence((seed, epoch)).generate_state(count).tolist()
