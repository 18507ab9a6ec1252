"""Several phrases a class: synonyms, descriptions or languages, averaged as text features."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from cocoop.errors import UsageError
from cocoop.utils.display import some


class Phrases:
    """What the classes are called in the text tower, and how features of phrases become those of classes.

    The direction of a class's feature is the normalised mean of the normalised features of its phrases, as an
    ensemble of templates has it; its length is the mean of theirs. A class of one phrase has its feature.

    Args:
        names: of the classes.
        phrases: of some of them; the others are called by their names.

    Raises:
        UsageError: a class has no phrase, or two classes have the same one.
    """

    def __init__(self, names: Sequence[str], phrases: Mapping[str, Sequence[str]]) -> None:
        self.names = tuple(names)
        self.each = [tuple(dict.fromkeys(phrases.get(name, ()))) or (name,) for name in names]
        if empty := [name for name in names if name in phrases and not phrases[name]]:
            raise UsageError(f"the classes {some(empty)} have no phrase; give one or more each")
        self.texts = [text for texts in self.each for text in texts]
        if twice := sorted({text for text in self.texts if self.texts.count(text) > 1}):
            raise UsageError(f"the phrases {some(twice)} are of several classes; give each to one")
        self.owners = torch.tensor([place for place, texts in enumerate(self.each) for _ in texts])

    def among(self, classes: Sequence[int]) -> tuple["Phrases", list[int]]:
        """Return the phrases of some of the classes, and their places among all."""
        names = [self.names[place] for place in classes]
        chosen = Phrases(names, {self.names[place]: self.each[place] for place in classes})
        return chosen, [self.texts.index(text) for text in chosen.texts]

    def average(self, features: Float[Tensor, "*s p d"]) -> Float[Tensor, "*s c d"]:
        """Return the features of the classes from those of all phrases."""
        shares = self._shares(features)
        lengths = features.norm(dim=-1, keepdim=True)
        return normalize(shares @ (features / lengths), dim=-1) * (shares @ lengths)

    def spread(self, contexts: Float[Tensor, "s k m w"]) -> Float[Tensor, "s p m w"]:
        """Return contexts for the phrases: where every class has its own, each phrase those of its class."""
        return contexts if contexts.shape[1] == 1 else contexts[:, self.owners.to(contexts.device)]

    def wrap(self, encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return an encoder of classes from one of phrases."""
        return lambda contexts: self.average(encode(self.spread(contexts)))

    def _shares(self, like: Tensor) -> Float[Tensor, "c p"]:
        owned = torch.arange(len(self.each))[:, None] == self.owners
        return (owned / owned.sum(1, keepdim=True)).to(like)
