"""A classifier whose text features are expanded once for its names: an image costs a few matrix products."""

from collections.abc import Mapping, Sequence
from copy import copy
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocoop.backbones.cache import FeatureCache
from cocoop.errors import UsageError
from cocoop.methods import Method
from cocoop.methods._hooks import Output, WithHidden
from cocoop.text import TextEncoder
from cocoop.text.linear import Expansion, expand, expansion_bytes
from cocoop.text.memory import available_memory
from cocoop.training.classifier import Classifier, both_in_pieces, evaluating, in_pieces
from cocoop.utils.files import digest


class Linearised:
    """A classifier whose text features are linearised: logits to first order in the hidden vector.

    Args:
        classifier: over the names.
        expansion: of its text features.
    """

    def __init__(self, classifier: Classifier, expansion: Expansion) -> None:
        self.classifier = classifier
        self.expansion = expansion
        self.class_names = classifier.class_names

    def similarity(self, fimg: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        """Return CLIP's logits to first order."""
        zimg = F.normalize(fimg, dim=-1)
        return self.classifier.logit_scale * self.expansion.cosine(
            zimg, hidden_of(self.classifier.method, zimg)
        )

    def logits(
        self, fimg: Float[Tensor, "b d"], similarity: Float[Tensor, "b c"] | None = None
    ) -> Float[Tensor, "b c"]:
        """Return the method's logits of such similarities."""
        return self.output(fimg, similarity).logits

    def output(self, fimg: Float[Tensor, "b d"], similarity: Float[Tensor, "b c"] | None = None) -> Output:
        """Return what the logits of such similarities are computed from."""
        similarity = self.similarity(fimg) if similarity is None else similarity
        return self.classifier.pair(fimg, fimg.new_empty(0, similarity.shape[1], fimg.shape[1]), similarity)

    @torch.no_grad()
    def predict(self, fimg: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return the logits of many images on the CPU."""
        with evaluating(self.classifier.method):
            return in_pieces(self.logits, fimg.to(self.classifier.device), len(self.class_names))

    @torch.no_grad()
    def similarities(self, fimg: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
        """Return the logits of many images, and the cosines to first order."""
        classifier = self.classifier

        def both(images: Tensor) -> Tensor:
            return classifier.both(self.output(images))

        with evaluating(classifier.method):
            return both_in_pieces(both, fimg.to(classifier.device), len(self.class_names))


def linearise(
    classifier: Classifier,
    fimg: Float[Tensor, "n d"],
    hidden: Mapping[str, Sequence[float]] = MappingProxyType({}),
    cache: FeatureCache | None = None,
) -> Linearised:
    """Expand the text features of a classifier whose method has a hidden vector.

    Args:
        classifier: over the names.
        fimg: images at hand, for whose hidden vectors to linearise where no others are described.
        hidden: "mean" and "std" of the hidden vectors to linearise for, e.g. the training images'.
        cache: where expansions are kept; None for nowhere.

    Raises:
        UsageError: the expansion does not fit the memory budget.
    """
    with evaluating(classifier.method), torch.no_grad():
        known = hidden or hidden_statistics(classifier.method, fimg.to(classifier.device))
        center, spread = (
            torch.tensor(known[name]).to(fimg).to(classifier.device) for name in ("mean", "std")
        )
        return Linearised(classifier, _expansion(classifier, center, spread, cache))


@torch.no_grad()
def hidden_statistics(method: Method, fimg: Float[Tensor, "n d"]) -> dict[str, list[float]]:
    """Return the mean and the standard deviation of the hidden vectors of images, by name."""
    hidden = hidden_of(method, F.normalize(fimg, dim=-1))
    return {"mean": hidden.mean(0).tolist(), "std": hidden.std(0, correction=0).tolist()}


def hidden_of(method: Method, zimg: Float[Tensor, "b d"]) -> Float[Tensor, "b r"]:
    """Return the hidden vectors of images."""
    assert isinstance(method, WithHidden)
    return method.hidden(zimg)


def _expansion(
    classifier: Classifier,
    center: Float[Tensor, " r"],
    spread: Float[Tensor, " r"],
    cache: FeatureCache | None,
) -> Expansion:
    """Return the expansion for some hidden vectors, from the cache where that has it."""
    method, backbone = classifier.method, classifier.backbone
    assert isinstance(method, WithHidden)
    budget = classifier.encode_text.memory_budget or available_memory(classifier.device) // 2
    if (needed := expansion_bytes(len(classifier.class_names), backbone.embed_dim, len(center))) > budget:
        raise UsageError(
            f"the expansion of {len(classifier.class_names)} names takes {needed / 1e6:,.0f} MB, more than "
            f"the memory budget of {budget / 1e6:,.0f} MB; give more, fewer names, or test exactly"
        )
    around = torch.cat([center[None], center + torch.eye(len(center)).to(center)])
    contexts = method.from_hidden(around)
    values = (tensor.cpu().numpy().tobytes() for tensor in (center, spread, contexts))
    names = (*map(repr, method.prompts), *classifier.class_names)
    key = digest("expansion", backbone.weights_digest, *names, *values)
    terms = cache.get(key) if cache else None
    if terms is None:
        full = copy(backbone)
        full.precision = "fp32"
        encode = TextEncoder(full, method.prompts, classifier.class_names, budget, normalised=False)
        terms = expand(lambda hidden: encode(method.from_hidden(hidden)), center, spread).terms
        if cache:
            cache.put(key, terms.cpu())
    return Expansion(center, terms.to(classifier.device))
