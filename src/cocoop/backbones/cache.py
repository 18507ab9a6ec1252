"""A cache of tensors on disk, by the digest of everything that they were computed from.

Beside features it remembers what the files of a list hold, so that files that did not change are not read
again: the digests of their contents, by the stamps that the storage recognises them by.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from cocoop.data.storage import Storage
from cocoop.utils.files import digest, write_bytes

if TYPE_CHECKING:  # imported where it is used: looking at the size of the cache needs no torch
    from torch import Tensor


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

    def get(self, key: str) -> "Tensor | None":
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
            with suppress(OSError):
                path.unlink()
            return None
        return features

    def put(self, key: str, features: "Tensor") -> None:
        """Store the entry of a key, if it can be: a cache on a full or read-only disk is only of no use."""
        from safetensors.torch import save

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


def content_digests(cache: FeatureCache, storage: Storage, paths: Sequence[str]) -> list[str]:
    """Return the SHA-256 of every file's content, from the cache where all their stamps are as they were.

    Raises:
        OSError, KeyError, ValueError: a file is missing or cannot be read.
    """
    import torch

    stamps = [storage.stamp(path) for path in paths]
    key = digest("contents", *stamps) if stamps and all(stamps) else ""
    if key and (kept := cache.get(key)) is not None:
        return [bytes(row).hex() for row in kept.numpy()]
    digests = [digest(storage.read(path)) for path in paths]
    if key:
        rows = torch.frombuffer(bytearray.fromhex("".join(digests)), dtype=torch.uint8)
        cache.put(key, rows.reshape(len(paths), -1))
    return digests


def _entry_digest(key: str, features: "Tensor") -> str:
    from safetensors.torch import save

    return digest(key, save({"features": features}))  # with dtype and shape
