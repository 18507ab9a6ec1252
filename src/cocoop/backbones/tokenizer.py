"""Prompts to tokens, with every backbone's own tokenizer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from cocoop.errors import UsageError
from cocoop.utils.display import brief

MAX_LETTERS = 16  # of a token on average, at most; words of natural language have about five
MARKS = ("\u2581", "\u0120")  # before a piece that begins a word: SentencePiece's, byte-level BPE's
INNER, END = "##", "</w>"  # before a piece inside a word: WordPiece's; behind a word: CLIP's


@runtime_checkable
class Vocabulary(Protocol):
    """A tokenizer as its library has it."""

    @property
    def prefix(self) -> tuple[int, ...]:
        """Tokens before every prompt."""
        ...

    @property
    def suffix(self) -> tuple[int, ...]:
        """Tokens behind every prompt."""
        ...

    @property
    def padding(self) -> int:
        """The token behind prompts that are shorter than others."""
        ...

    @property
    def unknown(self) -> int | None:
        """The token of what it does not know; None where it knows all."""
        ...

    @property
    def special(self) -> Mapping[int, str]:
        """How the text that it reads as special tokens is spelled, by token."""
        ...

    @property
    def left(self) -> bool:
        """Whether padding stands before a prompt instead."""
        ...

    @property
    def size(self) -> int:
        """Number of its tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without prefix and suffix."""
        ...

    def inside(self, text: str) -> list[int]:
        """Return the tokens that a text has inside a sentence."""
        ...

    def word(self, token: int) -> str:
        """Return the text of one token; "-" stands where a word goes on."""
        ...


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Tokenises prompts for one backbone, and refuses what it could only cut or misread.

    Args:
        vocabulary: the backbone's tokenizer.
        name: of the backbone, for messages.
        context_length: the most tokens of a prompt.
    """

    vocabulary: Vocabulary
    name: str
    context_length: int

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens before every prompt: SOT of CLIP."""
        return self.vocabulary.prefix

    @property
    def suffix(self) -> tuple[int, ...]:
        """The tokens behind every prompt: EOT of CLIP."""
        return self.vocabulary.suffix

    def __call__(self, text: str) -> list[int]:
        """Tokenise a whole prompt, with prefix and suffix, unpadded.

        Raises:
            UsageError: the text spells a special token (CLIP's tokenizer reads <start_of_text> and
                <end_of_text> as such, also as in "<end&#95;of&#95;text>", which it resolves, and OpenAI's
                "<|endoftext|>" as text like any other), is no valid Unicode, or is longer than the context.
        """
        tokens = [*self.prefix, *self.words(text), *self.suffix]
        if len(tokens) > self.context_length:
            raise UsageError(
                f"the prompt {brief(text)} has {len(tokens)} tokens with start and end, more than the "
                f"{self.context_length} of {self.name}; shorten the class name or the context"
            )
        return tokens

    def words(self, text: str) -> list[int]:
        """Return the tokens of a text without prefix and suffix. Raises UsageError as `__call__` does."""
        return self._checked(text, self.vocabulary.encode)

    def inside(self, text: str) -> list[int]:
        """Return the tokens that a text has inside a sentence. Raises UsageError as `__call__` does."""
        return self._checked(text, self.vocabulary.inside)

    def _checked(self, text: str, encode: Callable[[str], list[int]]) -> list[int]:
        if len(text) > MAX_LETTERS * self.context_length:  # a tokenizer's time may grow with the square of it
            raise UsageError(f"the prompt {brief(text)} is longer than {self.name} reads; shorten it")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UsageError(f"the text {brief(text)} is not valid Unicode; write it anew")
        tokens = encode(text)
        special = self.vocabulary.special
        if found := [special[token] for token in tokens if token in special]:
            raise UsageError(
                f"the text {brief(text)} holds {found[0]}, a special token of {self.name}; remove it"
            )
        return tokens


@dataclass(frozen=True, eq=False)
class ClipVocabulary:
    """CLIP's byte-pair tokenizer, as open_clip has it."""

    tokenizer: Any
    padding: int = 0
    unknown: int | None = None
    left: bool = False

    @cached_property
    def prefix(self) -> tuple[int, ...]:
        """SOT."""
        return (self.tokenizer.sot_token_id,)

    @cached_property
    def suffix(self) -> tuple[int, ...]:
        """EOT."""
        return (self.tokenizer.eot_token_id,)

    @cached_property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.tokenizer.encoder)

    @cached_property
    def special(self) -> Mapping[int, str]:
        """SOT and EOT, as they are spelled."""
        return {token: self.tokenizer.decoder[token] for token in (*self.prefix, *self.suffix)}

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        tokens: list[int] = self.tokenizer.encode(text)
        return tokens

    inside = encode  # blanks part words, which are tokenised one by one

    def word(self, token: int) -> str:
        """Return the text of one token."""
        text: str = self.tokenizer.decode([token])
        return text.rstrip() if text.endswith(" ") else f"{text}-"


@dataclass(frozen=True, eq=False)
class HubVocabulary:
    """A tokenizer of transformers: WordPiece, SentencePiece, byte-level.

    Args:
        tokenizer: of transformers.
        clean: what is done to a text before: small letters, no punctuation.
        bare: whether the tokens of its suffix are padding to the text tower, as CLIPA was trained.
    """

    tokenizer: Any
    clean: Callable[[str], str] = str
    bare: bool = False
    ends: tuple[tuple[int, ...], tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        whole, inner = self._ids("a", True), self._ids("a", False)
        starts = range(len(whole) - len(inner) + 1)
        at = next((start for start in starts if whole[start : start + len(inner)] == inner), 0)
        suffix = () if self.bare else tuple(whole[at + len(inner) :])
        object.__setattr__(self, "ends", (tuple(whole[:at]), suffix))

    @property
    def prefix(self) -> tuple[int, ...]:
        """What it puts before every text."""
        return self.ends[0]

    @property
    def suffix(self) -> tuple[int, ...]:
        """What it puts behind every text."""
        return self.ends[1]

    @cached_property
    def padding(self) -> int:
        """The padding token; 0 where it has none."""
        return int(self.tokenizer.pad_token_id or 0)

    @cached_property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.tokenizer)

    @property
    def left(self) -> bool:
        """Whether padding stands before a prompt."""
        return bool(self.tokenizer.padding_side == "left")

    @cached_property
    def unknown(self) -> int | None:
        """The token of what it does not know."""
        token: int | None = self.tokenizer.unk_token_id
        return None if token in self.ends[1] else token  # CLIP's has EOT in its place, and knows all bytes

    @cached_property
    def special(self) -> Mapping[int, str]:
        """Its special tokens but the unknown one."""
        ids, spelled = self.tokenizer.all_special_ids, self.tokenizer.all_special_tokens
        return {token: text for token, text in zip(ids, spelled, strict=True) if token != self.unknown}

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return self._ids(self.clean(text), False)

    def inside(self, text: str) -> list[int]:
        """Return the tokens of a text behind a word: byte-level tokenizers join the blank to it."""
        before = self.encode("a")
        behind = self.encode(f"a {text}")
        return behind[len(before) :] if behind[: len(before)] == before else self.encode(text)

    def word(self, token: int) -> str:
        """Return the text of one token."""
        piece: str = self.tokenizer.convert_ids_to_tokens(token)
        if self._marked.endswith(END):
            return piece.removesuffix(END) if piece.endswith(END) else f"{piece}-"
        if self._marked.startswith(MARKS):
            return piece.lstrip("".join(MARKS)) if piece.startswith(MARKS) else f"-{piece}"
        return f"-{piece.removeprefix(INNER)}" if piece.startswith(INNER) else piece

    @cached_property
    def _marked(self) -> str:
        """A word inside a sentence as a piece: it shows how the tokenizer marks words."""
        pieces: list[str] = self.tokenizer.convert_ids_to_tokens(self.encode("a a"))
        return pieces[-1] if pieces else ""

    def _ids(self, text: str, special: bool) -> list[int]:
        tokens: Sequence[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        return list(tokens)
