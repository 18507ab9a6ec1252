"""Image features: frozen, so encoded once in batches and kept in a content-addressed cache."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.data.dataset import Decode, Item
from cocoop.data.images import read_bytes, test_batch, train_batch
from cocoop.data.photos import ImageLike, to_image
from cocoop.data.verify import all_or_nothing
from cocoop.utils.files import digest, write_bytes

BATCH = 256
Progress = Callable[[int], None]  # called with the number of images just encoded


@dataclass(frozen=True)
class FeatureCache:
    """Tensors on disk under the digest of everything they were computed from.

    An entry carries a digest of its key and values; one that does not match is dropped and computed
    anew. Writing is atomic, so processes may share a folder.
    """

    folder: Path

    def path(self, key: str) -> Path:
        """Where the entry of a key is, or would be."""
        return self.folder / "features" / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> Tensor | None:
        """Return the entry, or None where it is absent or damaged."""
        path = self.path(key)
        try:
            with safe_open(path, "pt") as file:
                features: Tensor = file.get_tensor("features")
                whole = (file.metadata() or {}).get("sha256") == _entry_digest(key, features)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):
            whole = False
        if not whole:
            path.unlink(missing_ok=True)
            return None
        return features

    def put(self, key: str, features: Tensor) -> None:
        """Store the entry of a key, if it can be: a cache on a full or read-only disk is only of no use."""
        with suppress(OSError):
            write_bytes(
                self.path(key), save({"features": features}, {"sha256": _entry_digest(key, features)})
            )

    def entries(self) -> list[Path]:
        """All entries, the longest unused first."""
        files = (self.folder / "features").glob("*/*.safetensors")
        return sorted(files, key=lambda path: path.stat().st_atime)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.entries())

    def prune(self, max_bytes: int) -> int:
        """Delete the longest unused entries until at most `max_bytes` are left; return bytes freed."""
        total = before = self.size()
        for path in self.entries():
            if total <= max_bytes:
                break
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
        return before - total


@dataclass(frozen=True)
class ImageEncoder:
    """Encodes lists of images with one backbone, through one cache.

    Args:
        backbone: the frozen CLIP.
        cache: where features are kept; None computes them each time.
        decode: how image files become pixels, where the dataset has a way of its own.
    """

    backbone: Backbone
    cache: FeatureCache | None = None
    decode: Decode | None = None

    def test(
        self, root: Path, items: Sequence[Item], progress: Progress | None = None
    ) -> Float[Tensor, "n d"]:
        """Encode the test views of `items` to L2-normalised features."""
        with all_or_nothing(root, items, self.decode):
            return self._encode(root, items, None, progress)

    def train(
        self, root: Path, items: Sequence[Item], epoch: int, seed: int, progress: Progress | None = None
    ) -> Float[Tensor, "n d"]:
        """Encode one augmented view of each item: those of one epoch of the run with this seed.

        Augmentation does not depend on the learned weights, so a view drawn ahead has the same pixels as
        one drawn in the training loop. A view depends on (seed, epoch, place in `items`) alone.
        """
        with all_or_nothing(root, items, self.decode):
            return self._encode(root, items, view_seeds(seed, epoch, len(items)), progress)

    def _encode(
        self, root: Path, items: Sequence[Item], seeds: list[int] | None, progress: Progress | None
    ) -> Float[Tensor, "n d"]:
        key = self._key(root, items, seeds) if self.cache else ""
        if self.cache and (found := self.cache.get(key)) is not None:
            if progress:
                progress(len(items))
            return found
        parts = []
        for start in range(0, len(items), BATCH):
            part = slice(start, start + BATCH)
            if seeds is None:
                images = test_batch(root, items[part], self.backbone.preprocess, self.decode)
            else:
                images = train_batch(root, items[part], self.backbone.preprocess, seeds[part], self.decode)
            parts.append(self.backbone.encode_image(images))
            if progress:
                progress(len(images))
        features = torch.cat(parts) if parts else torch.empty(0, self.backbone.embed_dim)
        if self.cache:
            self.cache.put(key, features)
        return features

    def _key(self, root: Path, items: Sequence[Item], seeds: list[int] | None) -> str:
        files = (digest(read_bytes(root, item.path)) for item in items)
        view = "test" if seeds is None else f"train {seeds}"
        view += f" {self.decode.__name__}" if self.decode else ""
        clip = self.backbone
        return digest(clip.weights_digest, clip.precision, repr(clip.preprocess), view, *files)


def encode_images(
    backbone: Backbone, images: Sequence[ImageLike], seeds: Sequence[int] | None = None
) -> Float[Tensor, "n d"]:
    """Encode a person's own images, from files or memory, to L2-normalised features.

    Args:
        backbone: the frozen CLIP.
        images: whatever `to_image` takes.
        seeds: of one augmented view of each, as `view_seeds` gives them; None encodes the test views.

    Raises:
        CocoopError: an image cannot be read.
    """
    preprocess = backbone.preprocess
    parts = [torch.empty(0, backbone.embed_dim)]
    for start in range(0, len(images), BATCH):
        some = range(start, min(start + BATCH, len(images)))
        if seeds is None:
            views = [preprocess.test(to_image(images[i])) for i in some]
        else:
            views = [preprocess.train(to_image(images[i]), seeds[i]) for i in some]
        parts.append(backbone.encode_image(torch.stack(views)))
    return torch.cat(parts)


def view_seeds(seed: int, epoch: int, count: int) -> list[int]:
    """Seeds of the augmented views of one epoch: a pure function of run seed, epoch and place."""
    return np.random.SeedSequence((seed, epoch)).generate_state(count).tolist()


def _entry_digest(key: str, features: Tensor) -> str:
    return digest(key, save({"features": features}))  # with dtype and shape
