"""Image features and class names to logits: CLIP's scaled cosine, or the method's own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cocoop.backbones.block import UNCHANGED
from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import Method
from cocoop.methods._hooks import (
    Output,
    Sentences,
    Text,
    Unlabelled,
    WithAdapt,
    WithAssign,
    WithDerived,
    WithImage,
    WithLogits,
    WithObserve,
    WithSentences,
    WithTextChanges,
    WithTexts,
    views_of,
)
from cocoop.text import TextEncoder
from cocoop.text.phrases import Phrases
from cocoop.text.prompt import Prompt
from cocoop.text.scripts import warn_of_other_scripts
from cocoop.training.image import above
from cocoop.utils.display import some

IMAGES_AT_ONCE = 1000  # contexts held at a time when predicting
TEXTS_AT_ONCE = 1 << 14  # image-specific text features held at a time when predicting
WHOLE = Prompt("{}", underscores=True)  # a sentence as it stands


class Classifier:
    """A method over one list of class names.

    Image features are given as the image tower gives them; most methods use their direction alone, so that
    L2-normalised ones do as well.

    Args:
        backbone: the frozen CLIP.
        method: what makes the context vectors, trained or not.
        class_names: candidates, in the order of the logits.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        trained_names: the class names that the method was trained on, where it has values of each; None
            where these are the candidates.
        phrases: what some classes are called in the prompts, where not by their names; several phrases are
            averaged as features.

    Attributes:
        selected: by name, what the method selected by the test images of the last prediction, if it does.

    Raises:
        UsageError: an empty list, an empty name or one too long for the context window; or the method has
            values of its own for every class it was trained on, and none for one of these.

    Examples:
        >>> import cocoop
        >>> import torch
        >>> from cocoop.methods import METHODS, build
        >>> clip = cocoop.load_backbone("tiny-clip", device="cpu")
        >>> config = METHODS.get("cocoop").config_type()
        >>> method = build("cocoop", config, clip, template="a photo of a {}.", n_classes=2, seed=1)
        >>> classify = cocoop.Classifier(clip, method, ["red apple", "violin", "teapot"])
        >>> classify.predict(torch.ones(5, clip.embed_dim)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method,
        class_names: Sequence[str],
        memory_budget: int | None = None,
        trained_names: Sequence[str] | None = None,
        phrases: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.backbone = backbone
        self.method = method
        self.class_names = tuple(class_names)
        self.logit_scale = backbone.logit_scale
        self.device = backbone.device
        warn_of_other_scripts(backbone, class_names)
        self.rows = _rows(method, self.class_names, tuple(trained_names or class_names), self.device)
        self.phrases = Phrases(self.class_names, phrases) if phrases else None
        called = self.phrases.texts if self.phrases else class_names
        changed = isinstance(method, WithTextChanges)
        self.encode_text = TextEncoder(backbone, method.prompts, called, memory_budget, False, changed)
        self.text = _frozen_text(backbone, method, called, memory_budget)
        if self.phrases:
            self.text = {name: self.phrases.average(each) for name, each in self.text.items()}
        self.sentences = _frozen_sentences(backbone, method, class_names, memory_budget)
        self.selected: dict[str, Any] = {}
        self._derived: Text | None = None
        self._constant: Tensor | None = None  # text features of prompts in which nothing is learned

    def __call__(self, fimg: Float[Tensor, "b *n d"]) -> Float[Tensor, "b c"]:
        """Return the logits of image features: by default exp(logit scale) * cosine.

        A method that sees test images has not adapted itself to these; `predict` lets it.
        """
        return self.output(fimg).logits

    def output(self, fimg: Float[Tensor, "b *n d"]) -> Output:
        """Return image features and candidates, encoded, with their logits.

        Args:
            fimg: image features; of a method that learns inside the image tower, what images are at its cut.
        """
        seen = self.see(fimg)
        return self.pair(seen, self.encode(self.contexts(seen)))

    def see(self, state: Float[Tensor, "b *n d"]) -> Float[Tensor, "b kd"]:
        """Return the features of what images are at the method's cut, in pieces where memory asks for it."""
        state = state.to(self.device, non_blocking=True)
        if not isinstance(self.method, WithImage):
            return state
        return above(self.method, self.backbone.vision, state, self.encode_text.memory_budget)

    def predict(self, fimg: Float[Tensor, "n *v d"]) -> Float[Tensor, "n c"]:
        """Return the logits of many images on the CPU, computed in pieces that keep memory bounded.

        Args:
            fimg: of their test views, with all that is learned inside the image tower, as `encoder_of` makes
                them. For a method that looks at several views of an image, of all of these,
                (n, v, d), with the test views first. A stream has the images in this order.

        Raises:
            UsageError: the method looks at another number of views.
        """
        method, views = self.method, fimg if fimg.dim() == 3 else fimg[:, None]
        if views.shape[1] != (count := views_of(method).count):
            raise UsageError(
                f"{method.facts.name} looks at {count} view(s) of every image, not at {views.shape[1]}; give "
                "the features of all views, or the images themselves"
            )
        if not len(views):
            return torch.empty(0, len(self.class_names))
        if isinstance(method, WithAdapt | WithObserve | WithAssign):
            return self._adapted(views)
        return self.predict_unadapted(views[:, 0])

    @torch.no_grad()
    def predict_unadapted(self, fimg: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return what `predict` does, but of a method that sees test images before it has seen any."""
        with evaluating(self.method):
            return in_pieces(self._predict, fimg.to(self.device), len(self.class_names))

    @torch.no_grad()
    def similarities(self, fimg: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
        """Return the logits of many images, and the cosines of images and texts as CLIP compares them.

        The texts are those under the learned prompts, without what a method adds to the logits.
        """
        with evaluating(self.method):
            run = partial(self._predict, take=self.both)
            return both_in_pieces(run, fimg.to(self.device), len(self.class_names))

    def _predict(
        self, fimg: Float[Tensor, "b d"], take: Callable[[Output], Tensor] = lambda out: out.logits
    ) -> Float[Tensor, "b k"]:
        contexts = self.contexts(fimg)
        if not self.method.facts.conditional:
            return take(self.pair(fimg, self.encode(contexts)))
        size = max(1, TEXTS_AT_ONCE // len(self.class_names))
        pieces = zip(fimg.split(size), contexts.split(size), strict=True)
        return torch.cat([take(self.pair(piece, self.encode(context))) for piece, context in pieces])

    def encoder_in_one_piece(self) -> Callable[[Tensor], Tensor]:
        """Return `encode` for contexts that depend on the image, as a fixed graph for export."""
        whole = self.encode_text.in_one_piece()
        return self.phrases.wrap(whole) if self.phrases else whole

    def among(self, classes: Int[Tensor, " k"]) -> "Classifier":
        """Return the classifier over some of the classes; the method must see no sentences about them."""
        places = classes.tolist()
        fewer = copy(self)
        fewer.class_names = tuple(self.class_names[place] for place in places)
        fewer.rows = None if self.rows is None else self.rows[classes]
        if self.phrases:
            fewer.phrases, places = self.phrases.among(places)
        fewer.encode_text = self.encode_text.among(places)
        fewer.text = {name: features[:, classes] for name, features in self.text.items()}
        fewer._derived = fewer._constant = None
        return fewer

    @torch.no_grad()
    def _adapted(self, fimg: Float[Tensor, "n v d"]) -> Float[Tensor, "n c"]:
        """Return the logits of a method that adapts itself to the images."""
        method, views = self.method, fimg.to(self.device)
        with evaluating(method):
            if isinstance(method, WithAdapt):
                size = max(1, TEXTS_AT_ONCE // len(self.class_names))
                return torch.cat([method.adapt(self._unlabelled(part)).cpu() for part in views.split(size)])
            if isinstance(method, WithObserve):
                return method.observe(self._unlabelled(views)).cpu()
            assert isinstance(method, WithAssign)
            logits, self.selected = method.assign(self._unlabelled(views))
            return logits.cpu()

    def _unlabelled(self, fimg: Float[Tensor, "n v d"]) -> Unlabelled:
        return Unlabelled(fimg, self.encode, self.logit_scale, self._known(), self.rows)

    def contexts(self, fimg: Float[Tensor, "b d"]) -> Float[Tensor, "s k m w"]:
        """Return the method's context vectors: 1, as many as images, or as many as it has samples."""
        own = fimg[:, : self.backbone.embed_dim]
        return self.method(torch.nn.functional.normalize(own, dim=-1), self.text)

    def encode(self, contexts: Float[Tensor, "s k m w"]) -> Float[Tensor, "s c d"]:
        """Return the text features under context vectors; with none in a prompt they are computed once."""
        method = self.method
        changes = method.text_changes() if isinstance(method, WithTextChanges) else UNCHANGED
        encode: Callable[[Tensor], Tensor] = partial(self.encode_text, changes=changes)
        encode = self.phrases.wrap(encode) if self.phrases else encode
        if contexts.shape[2] or changes is not UNCHANGED:
            return encode(contexts)
        if self._constant is None:
            with torch.no_grad():
                self._constant = encode(contexts)
        return self._constant

    def pair(
        self,
        fimg: Float[Tensor, "b kd"],
        ftxt: Float[Tensor, "s c d"],
        approximate: Float[Tensor, "b c"] | None = None,
    ) -> Output:
        """Return what logits and losses are computed from, of image and text features.

        Args:
            fimg: image features, k of each image one behind the other.
            ftxt: text features; none of any class with `approximate`.
            approximate: the similarities, where they were computed in another way.
        """
        method, size = self.method, self.backbone.embed_dim
        return Output(
            fimg=fimg[:, :size],
            others=fimg[:, size:].unflatten(1, (-1, size)),
            ftxt=ftxt,
            logit_scale=self.logit_scale,
            text=self._known(),
            sentences=self.sentences,
            rows=self.rows,
            head=method.logits if isinstance(method, WithLogits) else None,
            approximate=approximate,
        )

    def cosine(self, out: Output) -> Float[Tensor, "b c"]:
        """Return the cosines of images and texts; of several samples of the texts their mean counts."""
        if self.method.facts.conditional or out.approximate is not None or out.ztxt.shape[0] == 1:
            return out.similarity / out.logit_scale
        return out.zimg @ torch.nn.functional.normalize(out.ztxt.mean(0), dim=-1).T

    def both(self, out: Output) -> Float[Tensor, "b c2"]:
        """Return the logits, and beside them the cosines."""
        return torch.cat([out.logits, self.cosine(out)], dim=1)

    def _known(self) -> Text:
        """Return the frozen text features, and once the method is trained what it derives from them."""
        if not isinstance(self.method, WithDerived) or self.method.training:
            self._derived = None
            return self.text
        if self._derived is None:
            self._derived = {**self.text, **self.method.derive(self.text, self.rows)}
        return self._derived


@contextmanager
def evaluating(method: Method) -> Iterator[None]:
    """Take a method out of training inside."""
    training = method.training
    method.eval()
    try:
        yield
    finally:
        method.train(training)


def in_pieces(
    predict: Callable[[Float[Tensor, "b d"]], Float[Tensor, "b c"]], fimg: Float[Tensor, "n d"], classes: int
) -> Float[Tensor, "n c"]:
    """Return the logits of many images on the CPU, those of a bounded number computed at a time."""
    rows = [predict(images).cpu() for images in fimg.split(IMAGES_AT_ONCE)] if len(fimg) else []
    return torch.cat([torch.empty(0, classes), *rows])


def both_in_pieces(
    both: Callable[[Float[Tensor, "b d"]], Float[Tensor, "b c2"]], fimg: Float[Tensor, "n d"], classes: int
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
    """Return logits and cosines of many images as `in_pieces` does; `both` has them side by side."""
    logits, cosines = in_pieces(both, fimg, 2 * classes).chunk(2, dim=1)
    return logits, cosines


def _rows(
    method: Method, names: tuple[str, ...], trained: tuple[str, ...], device: torch.device
) -> Int[Tensor, " c"] | None:
    """Return the place of every candidate among the names of the training; None where one has none."""
    if names == trained:
        return torch.arange(len(names), device=device)
    bound_contexts = any(prompt.class_specific for prompt in method.prompts)
    others = [name for name in names if name not in set(trained)]
    if not method.transferable and (others or bound_contexts):
        raise UsageError(
            f"{method.facts.name} learned values for each of its own classes; "
            f"{'others have none: ' + some(others) if others else 'it answers among all of these alone'}"
        )
    place = {name: index for index, name in enumerate(trained)}
    return None if others else torch.tensor([place[name] for name in names], dtype=torch.long, device=device)


@torch.no_grad()
def _frozen_text(
    backbone: Backbone, method: Method, class_names: Sequence[str], memory_budget: int | None
) -> Text:
    """Encode the templates that a method asks for, raw: authors differ in what they normalise, and when."""
    if not isinstance(method, WithTexts):
        return {}
    features = {
        name: [_encoded(backbone, Prompt(template), class_names, memory_budget) for template in templates]
        for name, templates in method.texts.items()
    }
    return {name: torch.stack(each) for name, each in features.items()}


@torch.no_grad()
def _frozen_sentences(
    backbone: Backbone, method: Method, class_names: Sequence[str], memory_budget: int | None
) -> Mapping[str, Sentences]:
    if not isinstance(method, WithSentences):
        return {}
    encoded = {}
    for name, each in method.sentences(class_names).items():
        counts = torch.tensor([len(sentences) for sentences in each])
        whole = [sentence for sentences in each for sentence in sentences]
        labels = torch.arange(len(counts)).repeat_interleave(counts).to(backbone.device)
        encoded[name] = Sentences(_encoded(backbone, WHOLE, whole, memory_budget), labels)
    return encoded


def _encoded(
    backbone: Backbone, prompt: Prompt, names: Sequence[str], memory_budget: int | None
) -> Float[Tensor, "c d"]:
    """Return the raw features of a prompt in which nothing is learned."""
    nothing = torch.empty(1, 1, 0, backbone.width, device=backbone.device)
    return TextEncoder(backbone, [prompt], names, memory_budget, normalised=False)(nothing)[0]
