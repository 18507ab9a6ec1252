"""Where a text should lie in the image space: at ImageNet's classes, and near its kin for all others.

Kernel ridge regression from the 1000 classes to their rows of the classifier. Two meanings are alike by their
words, their definitions (both as MiniLM reads them) and what both are kinds of; two texts by MiniLM alone.
Widths, powers and the penalty predict left-out classes well from the others, without any image.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from minilm import MiniLM
from torch import Tensor
from torch.nn import functional as F
from wordnet import WordNet

WIDTH = 0.45  # of the Gaussian kernel between unit vectors
PENALTY = 0.1
POWER = 3.0  # of how rare a kind is among the classes, in the kernel of kinds
CHUNK = 8192
PHOTO = "a photo of a {}."
SHOWN = 4  # words of a meaning that are read


class Ridge:
    """Predictions (n, dim) of a kernel ridge regression from kernels (n, classes)."""

    def __init__(self, kernel: Tensor, rows: Tensor) -> None:
        self._weights = torch.linalg.solve(kernel + PENALTY * torch.eye(len(kernel)), rows)

    def __call__(self, kernel: Tensor) -> Tensor:
        return kernel @ self._weights


class Meanings:
    """The targets of WordNet's nouns.

    Args:
        net: the nouns.
        encode: of sentences.
        classes: the offsets of ImageNet's classes.
        rows: their places in the image space.

    Attributes:
        places: (nouns, dim), by `index`. The longer a vector, the nearer its kin among the classes.
    """

    def __init__(self, net: WordNet, encode: MiniLM, classes: Sequence[str], rows: Tensor) -> None:
        self._net = net
        offsets = list(net.nouns)
        self.index = {offset: place for place, offset in enumerate(offsets)}
        own = [self.index[offset] for offset in classes]
        nouns = net.nouns.values()
        words = encode([", ".join(noun.words[:SHOWN]) for noun in nouns])
        glosses = encode([f"{noun.words[0]}: {noun.gloss.partition(';')[0]}" for noun in nouns])
        counts = Counter(kind for offset in classes for kind in net.kinds(offset))
        kinds = torch.stack([self._kinds(offset, counts, len(classes)) for offset in offsets])

        def kernel(places: Sequence[int]) -> Tensor:
            by_kind = kinds[places] @ kinds[own].T
            return (near(words[places], words[own]) + near(glosses[places], glosses[own]) + by_kind) / 3

        ridge = Ridge(kernel(own), rows)
        pieces = torch.arange(len(offsets)).split(CHUNK)
        self.places = torch.cat([ridge(kernel(piece.tolist())) for piece in pieces])

    def _kinds(self, offset: str, counts: Counter[str], classes: int) -> Tensor:
        """The kinds of a meaning among those of the classes, the rarer the heavier; at most a unit vector."""
        weights = {
            kind: math.log((classes + 1) / counts.get(kind, 1)) ** POWER for kind in self._net.kinds(offset)
        }
        vector = torch.tensor([weights.get(kind, 0.0) for kind in counts])
        return (vector / sum(weights.values())).sqrt()

    def of_word(self, word: str) -> Tensor:
        """The target of a word: its meanings, the usual ones first, those that can be photographed alone."""
        offsets = self._net.meanings.get(word.lower(), ())
        seen = [offset for offset in offsets if self._net.physical(offset)] or offsets
        shares = 1 / torch.arange(1, len(seen) + 1)
        return shares @ self.places[[self.index[offset] for offset in seen]]


class Texts:
    """The targets (n, dim) of any texts, as MiniLM reads them.

    Args:
        encode: of sentences.
        names: for each class, its words and its everyday name.
        rows: the places of the classes.
    """

    def __init__(self, encode: MiniLM, names: Sequence[tuple[str, str]], rows: Tensor) -> None:
        self._encode = encode
        said: tuple[Callable[[tuple[str, str]], str], ...] = (
            lambda pair: pair[0],
            lambda pair: pair[1],
            lambda pair: PHOTO.format(pair[1]),
        )
        self._known = [encode([say(pair) for pair in names]) for say in said]
        self._ridge = Ridge(sum(near(known, known) for known in self._known) / len(said), rows)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        parts = []
        for start in range(0, len(texts), CHUNK):
            read = self._encode(texts[start : start + CHUNK])
            parts.append(self._ridge(sum(near(read, known) for known in self._known) / len(self._known)))
        return torch.cat(parts)


def near(a: Tensor, b: Tensor) -> Tensor:
    """A Gaussian kernel (n, m) between unit vectors."""
    return torch.exp(-(1 - a @ b.T) / WIDTH**2)


def of_words(meanings: Meanings, texts: Texts, words: Sequence[str]) -> Tensor:
    """The unit targets of words: what they mean and how they read, together."""
    return F.normalize(torch.stack([meanings.of_word(word) for word in words]) + texts(words), dim=1)
