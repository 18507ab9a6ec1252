"""A frozen text tower by what prompt learning asks of it, whatever library it comes from.

Learned vectors are put where the tower's own token table has its rows, so that everything behind (positions,
masks, pooling, projection) is the tower's own computation.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Layer:
    """One pre-norm residual attention block, by its parts.

    Attributes:
        norm_1: before attention.
        qkv: projects to queries, keys and values side by side.
        out: projects what attention gives.
        scale_1: of attention's output.
        norm_2: before the MLP.
        widen: the MLP's first layer.
        activation: between both; None is QuickGELU, x sigmoid(1.702 x).
        narrow: the MLP's second layer.
        scale_2: of the MLP's output.
    """

    norm_1: nn.Module
    qkv: nn.Linear
    out: nn.Module
    scale_1: nn.Module
    norm_2: nn.Module
    widen: nn.Linear
    activation: Callable[[Tensor], Tensor] | None
    narrow: nn.Module
    scale_2: nn.Module


@dataclass(frozen=True, eq=False)
class CausalTransformer:
    """CLIP's text transformer by its parts: causal attention, learned positions, the feature read at EOT."""

    positions: Float[Tensor, "l w"]
    layers: tuple[Layer, ...]
    heads: int
    norm: nn.Module
    projection: nn.Module | Tensor | None


@dataclass(frozen=True, eq=False)
class TextModel:
    """A frozen text tower.

    Attributes:
        module: what holds its weights.
        encode: tokens (n, l) to raw text features (n, d), by the tower's own forward, masks and all.
        embedding: its token table: tokens (n, l) to vectors (n, l, w).
        blocks: its transformer blocks, each of which takes states (n, l, w) first; vectors can be learned
            before each. Empty where it has no such blocks.
        embed_dim: d.
        context_length: the most tokens of a prompt.
        fixed_length: whether every prompt is padded to the context length, as it was in training, since the
            feature depends on the padding.
        transformer: gives its parts where it is CLIP's, for which a token tree is exact; None elsewhere.
        read_at: the token that such a tower reads its feature at; -1 for the largest of its tokenizer.
        reason: why a token tree is not exact, in words.
    """

    module: nn.Module
    encode: Callable[[Int[Tensor, "n l"]], Float[Tensor, "n d"]]
    embedding: nn.Module
    blocks: tuple[nn.Module, ...]
    embed_dim: int
    context_length: int
    fixed_length: bool
    transformer: Callable[[], CausalTransformer] | None = None
    read_at: int = -1
    reason: str = ""

    def __post_init__(self) -> None:
        if _put_in_table in self.embedding._forward_hooks.values():
            return
        self.embedding.register_forward_hook(_put_in_table)
        for number, block in enumerate(self.blocks[1:], 1):
            block.register_forward_pre_hook(partial(_put_before, number), with_kwargs=True)

    def padded(self, reason: str) -> "TextModel":
        """Return the same tower without its parts, for a reason."""
        return replace(self, transformer=None, reason=reason)

    @property
    def width(self) -> int:
        """w, the size of a token's vector."""
        return int(self._weight.shape[1])

    @property
    def vocabulary(self) -> int:
        """v, the number of rows of the token table."""
        return int(self._weight.shape[0])

    @property
    def _weight(self) -> Tensor:
        return cast(Tensor, self.embedding.weight)

    @property
    def table(self) -> Float[Tensor, "v w"]:
        """Every token's vector; some towers scale what the table holds."""
        weight = self._weight
        if type(self.embedding) is nn.Embedding:
            return weight
        with torch.no_grad():
            table: Tensor = self.embedding(torch.arange(len(weight), device=weight.device))
        return table


@dataclass(frozen=True, eq=False)
class Placed:
    """Learned vectors, and the places of a batch of prompts where they stand.

    Attributes:
        rows: the prompt of every place.
        columns: its position in the prompt.
        vectors: what stands there, by the block before which it is put; 0 is the token table.
    """

    rows: Int[Tensor, " n"]
    columns: Int[Tensor, " n"]
    vectors: Mapping[int, Float[Tensor, "n w"]]

    def put(self, block: int, states: Float[Tensor, "p l w"]) -> Float[Tensor, "p l w"]:
        """Return the states with the vectors in their places."""
        return states.index_put((self.rows, self.columns), self.vectors[block].to(states.dtype))


_PLACED: ContextVar[Placed | None] = ContextVar("placed", default=None)  # threads share a tower, not these


@contextmanager
def placed(vectors: Placed) -> Iterator[None]:
    """Put learned vectors into whatever text tower computes inside."""
    token = _PLACED.set(vectors)
    try:
        yield
    finally:
        _PLACED.reset(token)


def _put_in_table(module: nn.Module, args: Any, out: Tensor) -> Tensor:
    vectors = _PLACED.get()
    return out if vectors is None else vectors.put(0, out)


def _put_before(number: int, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    vectors = _PLACED.get()
    if vectors is None or number not in vectors.vectors:
        return None
    if args:
        return (vectors.put(number, args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": vectors.put(number, kwargs["hidden_states"])}


def masked(features: Callable[..., Any], padding: int) -> Callable[[Tensor], Tensor]:
    """Return the text features of one of transformers' models as a function of tokens, padding masked."""

    def encode(tokens: Tensor) -> Tensor:
        pooled: Tensor = features(input_ids=tokens, attention_mask=(tokens != padding).long()).pooler_output
        return pooled

    return encode


def blocks_of(tower: nn.Module) -> tuple[nn.Module, ...]:
    """Return the blocks of a transformer, whatever its library calls them: its outermost list of modules."""
    lists = (module for module in tower.modules() if isinstance(module, nn.ModuleList))
    return tuple(next(lists, ()))
