"""Images to features of the frozen image tower, in batches; with a cache each list is encoded once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from cocoop.backbones.cache import FeatureCache, content_digests
from cocoop.backbones.clip import Backbone
from cocoop.backbones.vision import Cut
from cocoop.data.dataset import Item
from cocoop.data.decode import Decode, open_image, to_image
from cocoop.data.decoded import Decoded
from cocoop.data.live import Live
from cocoop.data.storage import Root, open_storage
from cocoop.data.verify import all_or_nothing
from cocoop.data.views import SCALE, TEST, Augmentation, ImageViews, View, training_view
from cocoop.utils.files import digest

BATCH = 256
LIMIT = 1 << 28
Encode = Callable[[Tensor], Tensor]
Progress = Callable[[int], None]  # called with the number of images just encoded
Source = TypeVar("Source")  # what an image is read from


@dataclass(frozen=True)
class ImageEncoder:
    """Encodes lists of a dataset's images with one backbone, through one cache.

    Args:
        backbone: the frozen CLIP.
        cache: where features are kept; None computes them each time.
        decode: how image files become pixels, where the dataset has a way of its own.
        decoded: images that were, for further views of them.
        cut: where the image tower stops being frozen: what images are there is encoded in place of features.
        limit: bytes of one view of a list at such a cut, beyond which it is made when a step asks for it.
        encode: pixels to features of a tower in which something is learned, which are not kept; None for the
            frozen tower's.
    """

    backbone: Backbone
    cache: FeatureCache | None = None
    decode: Decode | None = None
    decoded: Decoded = field(default_factory=Decoded)
    cut: Cut = "feature"
    limit: int = LIMIT
    encode: Encode | None = None

    def test(
        self, root: Root, items: Sequence[Item], progress: Progress | None = None
    ) -> Float[Tensor, "n *l d"]:
        """Encode the test views of `items`."""
        with all_or_nothing(root, items, self.decode):
            return self._encode(root, items, TEST, progress)

    def train(
        self,
        root: Root,
        items: Sequence[Item],
        epoch: int,
        seed: int,
        progress: Progress | None = None,
        augmentation: Augmentation = "crop",
        crop: float = SCALE[0],
    ) -> Float[Tensor, "n *l d"] | Live:
        """Encode one augmented view of each item: those of one epoch of the run with this seed.

        Augmentation does not depend on the learned weights, so a view drawn ahead has the same pixels as
        one drawn in the training loop. A view depends on (seed, epoch, place in `items`) alone. Views that
        are not kept at the cut are made when a step asks for them.
        """
        view = training_view(seed, epoch, len(items), augmentation, crop)
        if not self.keeps(len(items)):
            return self._live(root, items, view)
        with all_or_nothing(root, items, self.decode):
            return self._encode(root, items, view, progress)

    def keeps(self, images: int) -> bool:
        """Whether a view of so many images is kept at the cut: pixels never are."""
        return keeps(self.backbone, self.cut, images, self.limit)

    def looks(
        self, root: Root, items: Sequence[Item], views: ImageViews, seed: int
    ) -> Float[Tensor, "n v d"]:
        """Encode all views of `items` by which a method looks at them when it is asked."""
        if views.count == 1:
            return self.test(root, items)[:, None]
        paths, each = [item.path for item in items], views.of(seed, len(items))
        read = partial(open_image, root, decode=self.decode)
        with all_or_nothing(root, items, self.decode):
            if self.cache is None or self.encode:
                return encode_views(self.backbone, paths, each, read, self._see)
            contents = content_digests(self.cache, open_storage(root), paths)
            key = self._key(contents, " ".join(view.key for view in each))
            if (kept := self.cache.get(key)) is None:
                kept = encode_views(self.backbone, paths, each, read, self._see)
                self.cache.put(key, kept)
        return kept

    def _encode(
        self, root: Root, items: Sequence[Item], view: View, progress: Progress | None
    ) -> Float[Tensor, "n *l d"]:
        paths = [item.path for item in items]
        read = partial(open_image, root, decode=self.decode)
        if self.cache is None or self.encode:
            return encode_images(self.backbone, paths, view, read, progress, self._see)
        contents = content_digests(self.cache, open_storage(root), paths)
        key = self._key(contents, view.key)
        if (features := self.cache.get(key)) is not None:
            if progress:
                progress(len(items))
            return features
        if view.seeds is None:
            features = encode_images(self.backbone, paths, view, read, progress, self._see)
        else:  # there are other views of the same images to come
            ways = [f"{self._decoder} {content}" for content in contents]
            pairs, again = list(zip(paths, ways, strict=True)), self.decoded.reader(ways, read)
            features = encode_images(self.backbone, pairs, view, again, progress, self._see)
        self.cache.put(key, features)
        return features

    def _key(self, contents: list[str], view: str) -> str:
        clip = self.backbone
        cut = () if self.cut == "feature" else (f"cut {self.cut}",)
        about = ("raw", clip.weights_digest, clip.precision, repr(clip.preprocess), view, self._decoder, *cut)
        return digest(*about, *contents)

    def _see(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b *l d"]:
        return self.encode(pixels) if self.encode else self.backbone.encode_image(pixels, self.cut)

    def _live(self, root: Root, items: Sequence[Item], view: View) -> Live:
        """Return views that are read when their step comes; images stay decoded as far as they fit."""
        paths = [item.path for item in items]
        ways = [f"{self._decoder} {path}" for path in paths]
        read = self.decoded.reader(ways, partial(open_image, root, decode=self.decode))

        views = live(self.backbone, list(zip(paths, ways, strict=True)), view, read, self._see)

        def make(places: Sequence[int]) -> Tensor:
            with all_or_nothing(root, items, self.decode):
                return views.make(places)

        return replace(views, make=make)

    @property
    def _decoder(self) -> str:
        return self.decode.__name__ if self.decode else ""


def bytes_at(backbone: Backbone, cut: Cut, images: int) -> int:
    """Return the bytes of one view of so many images at a cut; 0 for pixels, which are not kept."""
    if cut == "feature":
        return images * backbone.embed_dim * 4
    return images * backbone.vision.state_numbers(cut) * backbone.vision.dtype.itemsize


def keeps(backbone: Backbone, cut: Cut, images: int, limit: int = LIMIT) -> bool:
    """Whether one view of so many images is kept at a cut."""
    return cut in ("feature", "projection") or 0 < bytes_at(backbone, cut, images) <= limit


def live(
    backbone: Backbone,
    images: Sequence[Source],
    view: View,
    read: Callable[[Source], Image.Image] = to_image,
    then: Encode = lambda pixels: pixels,
) -> Live:
    """Return one view of each image that is read when its step comes, and what is done to it then."""

    def make(places: Sequence[int]) -> Tensor:
        pixels = backbone.preprocess.batch([images[place] for place in places], view.at(places), read)
        return pixels.pin_memory() if backbone.device.type == "cuda" else pixels

    return Live(len(images), make, then)


def encode_images(
    backbone: Backbone,
    images: Sequence[Source],
    view: View = TEST,
    read: Callable[[Source], Image.Image] = to_image,
    progress: Progress | None = None,
    encode: Encode | None = None,
) -> Float[Tensor, "n *l d"]:
    """Encode images, from files or memory, to features as the image tower gives them.

    Args:
        backbone: the frozen CLIP.
        images: n images in any form that `read` takes.
        view: which view of each, as `training_view` gives them.
        read: gives the Pillow image; each is read when its batch is encoded.
        progress: called after every batch.
        encode: pixels to what is returned in place of features; None for these.

    Raises:
        CocoopError: an image cannot be read.
    """
    encode, parts = encode or backbone.encode_image, []
    for start in range(0, len(images), BATCH):
        end = start + BATCH
        views = backbone.preprocess.batch(images[start:end], view.part(start, end), read)
        parts.append(encode(views))
        if progress:
            progress(len(views))
    return torch.cat(parts) if parts else torch.empty(0, backbone.embed_dim)


def encode_views(
    backbone: Backbone,
    images: Sequence[Source],
    views: Sequence[View],
    read: Callable[[Source], Image.Image] = to_image,
    encode: Encode | None = None,
) -> Float[Tensor, "n v d"]:
    """Encode several views of n images, each of which is read once; see `encode_images`.

    Raises:
        CocoopError: an image cannot be read.
    """
    encode, parts = encode or backbone.encode_image, []
    size = max(1, BATCH // len(views))
    for start in range(0, len(images), size):
        some = [read(image) for image in images[start : start + size]]
        pixels = [backbone.preprocess.batch(some, view.part(start, start + size)) for view in views]
        parts.append(encode(torch.stack(pixels, dim=1).flatten(0, 1)).unflatten(0, (len(some), -1)))
    return torch.cat(parts) if parts else torch.empty(0, len(views), backbone.embed_dim)
