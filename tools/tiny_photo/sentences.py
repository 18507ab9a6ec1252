"""Sentences to learn from, each with its place in the image space, its chance, and how sure it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from targets import PHOTO, Meanings, Texts, of_words
from torch import Tensor
from torch.nn import functional as F
from wordnet import WordNet

CONTEXT = 32
NEUTRAL = (
    "{}",
    "a {}.",
    PHOTO,
    "a photo of a {}",
    "a photo of the {}.",
    "a photo of {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "a good photo of a {}.",
    "this is a photo of a {}.",
    "a {} in a photo.",
    "itap of a {}.",
)
# A context that says more moves a text as MiniLM says, so that a learned context has somewhere to go.
STYLES = (
    "a drawing of a {}.",
    "a painting of a {}.",
    "a black and white photo of a {}.",
    "a close-up photo of a {}.",
    "a blurry photo of a {}.",
    "a dark photo of a {}.",
    "a satellite photo of {}.",
    "an aerial view of a {}.",
    "a {} seen from above.",
    "a toy {}.",
    "a plastic {}.",
    "a wooden {}.",
    "a metal {}.",
    "a small {}.",
    "a large {}.",
    "an old {}.",
    "a broken {}.",
    "a red {}.",
    "a green {}.",
    "a blue {}.",
    "a white {}.",
    "a black {}.",
    "a yellow {}.",
    "a baby {}.",
    "the head of a {}.",
    "the texture of a {}.",
    "a group of {}.",
    "a person with a {}.",
    "a {} on a table.",
    "a {} on the street.",
    "a {} in the water.",
    "a {} in the forest.",
    "a {} in the snow.",
    "a {} in a kitchen.",
    "a {} in the sky.",
    "a photo of a {}, a type of animal.",
    "a photo of a {}, a type of plant.",
    "a photo of a {}, a type of food.",
    "a photo of a {}, a type of vehicle.",
    "a photo of a {}, a type of building.",
    "a photo of a {}, a type of place.",
)
SURE = 0.5  # the length of a target from which on it counts whole
LEAST = 0.2
SMALL = "a an the of or and in on for with by to from as at that which is are its"
EDGE = frozenset(SMALL.split(" "))


@dataclass(frozen=True)
class Share:
    """How a batch is composed."""

    names: float = 0.1  # of ImageNet's classes
    words: float = 0.5
    styles: float = 0.2
    meanings: float = 0.1
    phrases: float = 0.1


@dataclass(frozen=True)
class Sentences:
    """Tokens (n, 32), unit targets (n, dim), how sure they are (n,), and the chance of each (n,)."""

    tokens: Tensor
    aims: Tensor
    sure: Tensor
    chance: Tensor


@dataclass(frozen=True)
class _Part:
    texts: list[str]
    aims: Tensor  # not normalised: the length says how sure a target is
    share: float
    weights: np.ndarray | None = None


def build(
    net: WordNet,
    meanings: Meanings,
    texts: Texts,
    names: Sequence[tuple[str, ...]],
    rows: Tensor,
    rng: np.random.Generator,
    share: Share = Share(),
    styled: int = 200_000,
) -> Sentences:
    """All sentences, drawn once.

    Args:
        net: the nouns.
        meanings: and their targets.
        texts: the targets of texts.
        names: of each of ImageNet's classes.
        rows: the places of the classes.
        rng: draws templates and phrases.
        share: of each kind in a batch.
        styled: how many sentences say more than a name.
    """
    words, weights = _words(net)
    aims = of_words(meanings, texts, words)
    physical = [place for place, word in enumerate(words) if _seen(net, word)]
    parts = [
        _names(names, rows, share.names),
        _neutral(words, aims, weights, rng, share.words),
        _styled(texts, words, aims, rng.choice(physical, styled), rng, share.styles),
        _defined(net, meanings, share.meanings),
        _phrases(net, texts, rng, share.phrases),
    ]
    tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
    lengths = torch.cat([part.aims.norm(dim=1) for part in parts])
    return Sentences(
        torch.cat([tokenizer(part.texts).to(torch.int32) for part in parts]),
        F.normalize(torch.cat([part.aims for part in parts]), dim=1).half(),
        (lengths / SURE).clamp(LEAST, 1.0),
        torch.cat([_chances(part) for part in parts]),
    )


def _chances(part: _Part) -> Tensor:
    weights = np.ones(len(part.texts)) if part.weights is None else part.weights
    return torch.from_numpy(part.share * weights / weights.sum())


def _words(net: WordNet) -> tuple[list[str], np.ndarray]:
    """All nouns but Latin ones, and their weights: more for common ones and what can be photographed.

    CLIP's tokenizer has one token for a common word and several for a rare one.
    """
    words = [
        word
        for word, offsets in net.meanings.items()
        if not word.startswith("genus ") and any(word in net.nouns[offset].words for offset in offsets)
    ]
    tokenizer = open_clip.SimpleTokenizer()
    weights = [(1.0 if _seen(net, word) else 0.3) / len(tokenizer.encode(word)) ** 2 for word in words]
    return words, np.array(weights)


def _seen(net: WordNet, word: str) -> bool:
    return any(net.physical(offset) for offset in net.meanings[word])


def _names(names: Sequence[tuple[str, ...]], rows: Tensor, share: float) -> _Part:
    pairs = [(name, place) for place, many in enumerate(names) for name in many]
    texts = [template.format(name) for template in NEUTRAL for name, _ in pairs]
    return _Part(texts, rows[[place for _, place in pairs]].repeat(len(NEUTRAL), 1), share)


def _neutral(
    words: Sequence[str], aims: Tensor, weights: np.ndarray, rng: np.random.Generator, share: float
) -> _Part:
    times = 5
    picks = np.stack([rng.choice(len(NEUTRAL), times, replace=False) for _ in words], axis=1)
    texts = [NEUTRAL[pick].format(word) for row in picks for pick, word in zip(row, words, strict=True)]
    return _Part(texts, aims.repeat(times, 1), share, np.tile(weights, times))


def _styled(
    texts: Texts,
    words: Sequence[str],
    aims: Tensor,
    places: np.ndarray,
    rng: np.random.Generator,
    share: float,
) -> _Part:
    """A sentence lies beside its word by as much as its reading beside that of a plain photo of it."""
    styles = rng.integers(len(STYLES), size=len(places))
    said = [STYLES[style].format(words[place]) for style, place in zip(styles, places, strict=True)]
    unique, back = np.unique(places, return_inverse=True)
    plain = texts([PHOTO.format(words[place]) for place in unique])[back]
    return _Part(said, aims[places] + texts(said) - plain, share)


def _defined(net: WordNet, meanings: Meanings, share: float) -> _Part:
    """What can be photographed, by its definition and by what it is a kind of."""
    pairs = [(text, meanings.index[offset]) for offset in net.nouns for text in _definitions(net, offset)]
    return _Part([text for text, _ in pairs], meanings.places[[place for _, place in pairs]], share)


def _definitions(net: WordNet, offset: str) -> Iterator[str]:
    noun = net.nouns[offset]
    if not net.physical(offset):
        return
    yield f"{noun.words[0]}, {noun.gloss.partition(';')[0]}"
    if noun.above:
        yield f"a photo of a {noun.words[0]}, a type of {net.nouns[noun.above[0]].words[0]}."


def _phrases(net: WordNet, texts: Texts, rng: np.random.Generator, share: float) -> _Part:
    """Pieces of definitions, two to four words that neither begin nor end with a small one."""
    found: set[str] = set()
    for offset, noun in net.nouns.items():
        said = re.findall(r"[a-z'-]+", noun.gloss.partition(";")[0].lower())
        if len(said) < 4 or not net.physical(offset):
            continue
        for start in rng.integers(len(said) - 1, size=3):
            piece = said[start : start + int(rng.integers(2, 5))]
            if piece[0] not in EDGE and piece[-1] not in EDGE:
                found.add(" ".join(piece))
    phrases = sorted(found)
    said = [phrase if number % 2 else PHOTO.format(phrase) for number, phrase in enumerate(phrases)]
    return _Part(said, texts(phrases), share)
