"""What a method says to the text encoder: a template, and where in it the learned vectors stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.backbones.tokenizer import Tokenizer
from cocoop.errors import UsageError
from cocoop.utils.display import brief, visible
from cocoop.utils.seeding import checked

Position = Literal["end", "middle", "front"]

# The context's placeholder where it has no words of its own: one token of every vocabulary.
PLACEHOLDER = "X"


class Slot(NamedTuple):
    """One position of a prompt: a fixed token, or a learned vector.

    Attributes:
        token: vocabulary index, or -1 where a learned vector stands.
        ctx: index of the learned vector, or -1.
        cls: the class that the learned vector, or the state of the token, belongs to alone; -1 where the
            classes share it.
        block: the transformer block that the learned vector comes in before; 0 for with the tokens.
    """

    token: int = -1
    ctx: int = -1
    cls: int = -1
    block: int = 0


@dataclass(frozen=True)
class Prompt:
    """A prompt template of a method.

    Attributes:
        template: text with `{}` for the class name; the first `n_ctx` tokens are replaced by learned
            vectors, so "a photo of a {}." with `n_ctx=4` has one vector in place of each word.
        n_ctx: M, the number of learned context vectors.
        position: where the name stands: at the "end" behind all vectors, in the "middle" of them, or
            in "front" (CoOp, section 3.2).
        class_specific: every class has vectors of its own (CoOp's CSC).
        places: the tokens of the template, counted from 0 behind SOT, that learned vectors replace, in
            place of the first `n_ctx`; all stand before the name.
        underscores: whether names keep theirs, which are blanks elsewhere.
        deeper: the transformer blocks, counted from 0, before which the second M vectors, the third and so
            on overwrite the states where vectors stand; where none are given, those from the first on.
        shared_blocks: how many of the first blocks all classes share in spite of `class_specific`: up to
            there, the vectors of the first class are those of all.
        own_states: whether every class has states of its own also where prompts start alike, for a tower that
            draws at random, as dropout does in training.
        inserted: the block before which the first M vectors are put in behind SOT, in place of no token;
            in the earlier ones there are none; 0 where they replace tokens.
        read_only: whether the one vector stands behind EOT, in place of no token and without a position, and
            the feature is read there: it attends to the prompt, and neither it nor the prompt to it.
    """

    template: str
    n_ctx: int = 0
    position: Position = "end"
    class_specific: bool = False
    places: tuple[int, ...] = ()
    underscores: bool = False
    deeper: tuple[int, ...] = ()
    shared_blocks: int = 0
    own_states: bool = False
    inserted: int = 0
    read_only: bool = False

    def __post_init__(self) -> None:
        if self.template.count("{}") != 1:
            raise UsageError(f"the template {brief(self.template)} needs {{}} once, for the class name")
        first = self.inserted + 1
        if list(self.deeper) != sorted(set(self.deeper)) or min(self.deeper, default=first) < first:
            raise UsageError(f"deeper vectors need blocks in order, from {first} on, not {self.deeper}")
        if self.shared_blocks and not self.class_specific:
            raise UsageError(
                "shared_blocks is for class-specific vectors; all others are shared in all blocks"
            )
        if self.read_only and self.n_ctx != 1:
            raise UsageError(
                f"a read-only prompt has one vector, not {self.n_ctx}; several are several samples"
            )
        ways = (self.read_only, self.inserted > 0, bool(self.places or self.shared_blocks))
        if self.inserted < 0 or sum(ways) > 1:
            raise UsageError("vectors are read-only, or inserted before a block, or in place of tokens")

    @property
    def added(self) -> bool:
        """Whether the vectors stand in place of no token."""
        return self.read_only or self.inserted > 0

    def fill(self, class_name: str) -> str:
        """Return the prompt of a class in words, as it would be with nothing learned."""
        return self.template.replace("{}", class_name)

    def slots(self, tokenize: Tokenizer, class_names: Sequence[str]) -> list[tuple[Slot, ...]]:
        """Return the slots of every class's prompt, from SOT to EOT.

        As in the released code, underscores in a name are blanks, and the sentence is tokenised whole, so
        a name's last piece may merge with the full stop, as it did when CLIP was trained.

        Raises:
            UsageError: no class names, one that is empty or holds control characters, or a prompt that the
                tokenizer refuses (see `Backbone.tokenize`).
        """
        if not class_names:
            raise UsageError("the list of class names is empty; give at least one")
        replaced = 0 if self.added else max(self.places, default=self.n_ctx - 1) + 1
        head = tokenize.words(self.template.partition("{}")[0])[:replaced]
        each = [self._slots(tokenize, name, label, head) for label, name in enumerate(class_names)]
        return list(map(_own, each, range(len(each)))) if self.own_states else each

    def _slots(self, tokenize: Tokenizer, class_name: str, label: int, head: list[int]) -> tuple[Slot, ...]:
        name = class_name if self.underscores else _spaced(class_name)
        if visible(name) != name:
            raise UsageError(f"the class name {brief(name)} holds characters that are no text; remove them")
        inner = len(_name(tokenize, name, label))
        start = len(tokenize.prefix)
        slots = [Slot(token=token) for token in tokenize(self.fill(name))]
        sot, words = slots[:start], slots[start:]
        if [slot.token for slot in words[: len(head)]] != head:
            raise UsageError(
                f"the tokenizer of {tokenize.name} joins the end of the context in {brief(self.template)} to "
                f"the class name {brief(name)}; write the context otherwise"
            )
        cls = label if self.class_specific else -1
        context = [Slot(ctx=index, cls=cls, block=self.inserted) for index in range(self.n_ctx)]
        if self.added:
            return (*sot, *words, *context) if self.read_only else (*sot, *context, *words)
        if self.places:
            for place, vector in zip(self.places, context, strict=True):
                words[place] = vector
            return (*sot, *words)
        rest = words[self.n_ctx :]
        before = {"end": self.n_ctx, "middle": self.n_ctx // 2, "front": 0}[self.position]
        split = 0 if self.position == "end" else inner
        return (*sot, *context[:before], *rest[:split], *context[before:], *rest[split:])


def own_slots(slots: Sequence[tuple[Slot, ...]], classes: Int[Tensor, "b k"]) -> list[tuple[Slot, ...]]:
    """Return the slots of a few classes of each image, each with learned vectors of its own."""
    return [
        tuple(slot if slot.ctx < 0 else slot._replace(cls=image) for slot in slots[label])
        for image, labels in enumerate(classes.tolist())
        for label in labels
    ]


def _own(slots: tuple[Slot, ...], label: int) -> tuple[Slot, ...]:
    """Return the slots of a class apart from those of all others."""
    return tuple(slot._replace(cls=label) for slot in slots)


def _name(tokenize: Tokenizer, name: str, label: int) -> list[int]:
    """Return the tokens of a class name in a sentence. Raises UsageError where it says nothing."""
    tokens = tokenize.inside(name)
    if not tokens:
        made = f": the tokenizer of {tokenize.name} makes nothing of {brief(name)}" if name.strip() else ""
        raise UsageError(f"class {label} has an empty name; every class needs at least one word{made}")
    if set(tokens) == {tokenize.vocabulary.unknown}:
        raise UsageError(
            f"the tokenizer of {tokenize.name} knows nothing of the class name {brief(name)}; "
            "spell it otherwise, or take a multilingual backbone (cocoop list backbones)"
        )
    return tokens


def context_template(words: str | None, n_ctx: int) -> str:
    """Return the template whose head the context vectors replace: the words, or M placeholders."""
    return f"{_spaced(words) if words else ' '.join([PLACEHOLDER] * n_ctx)} {{}}."


def init_context(backbone: Backbone, words: str | None, n_ctx: int, seed: int) -> Float[Tensor, "m w"]:
    """Return the first value of the context vectors.

    The token embeddings of `words` where given, underscores read as blanks: as many vectors as CLIP's
    tokenizer makes of them. Else `n_ctx` vectors from a normal distribution of standard deviation 0.02
    (CoOp, section 4.1).

    Raises:
        UsageError: there are no words in `words`, or `n_ctx` is below 1.
    """
    if words:
        if not len(vectors := backbone.embed_words(_spaced(words))):
            raise UsageError(f"the initial context {brief(words)} holds no words")
        return vectors
    if not 1 <= n_ctx <= backbone.context_length:
        raise UsageError(f"n_ctx must be from 1 to less than {backbone.context_length}, not {n_ctx}")
    generator = torch.Generator().manual_seed(checked(seed))
    return 0.02 * torch.randn(n_ctx, backbone.width, generator=generator)


def _spaced(text: str) -> str:
    """Return a text with blanks for underscores."""
    return text.replace("_", " ")
