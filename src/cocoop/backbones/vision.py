"""A frozen image tower taken apart at a cut: what is below it never changes, what is above a method may.

Only CLIP's vision transformer has such parts: a class token, the standard pre-norm block, the feature read at
the class token. What other towers are is said in words, for those who ask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.block import UNCHANGED, Block, Changes, take_apart
from cocoop.backbones.text_model import Layer
from cocoop.errors import UsageError

# Where a tower stops being frozen: at the pixels, behind so many blocks, before or behind the projection.
Cut = int | Literal["pixels", "projection", "feature"]
Tokens = slice | list[int]
CLASS_TOKEN = slice(0, 1)
KEPT_BLOCK = 14  # vectors of a token that the backward pass through one block keeps


@dataclass(frozen=True, eq=False)
class VisionTransformer:
    """CLIP's vision transformer by its parts.

    Attributes:
        patches: pixels (b, 3, h, w) to patch vectors (b, w, h', w').
        class_token: what stands before them.
        positions: of the class token and the patches.
        norm_pre: before the first block.
        layers: its blocks.
        heads: of their attention.
        norm: behind the last one.
        projection: to the joint embedding.
    """

    patches: nn.Module
    class_token: Float[Tensor, " w"]
    positions: Float[Tensor, "l w"]
    norm_pre: nn.Module
    layers: tuple[Layer, ...]
    heads: int
    norm: nn.Module
    projection: Float[Tensor, "w d"]


class VisionTower:
    """A frozen vision transformer, below and above a cut.

    Args:
        parts: of the tower.
        dtype: of the matrix products inside the blocks, which then work on copies of the weights; None for
            that of the weights.

    Attributes:
        width: w, the size of a token's vector.
        embed_dim: d, the size of the joint embedding.
        heads: of attention.
        tokens: l, the class token and the patches.
        projection: the frozen projection.
        class_token: what stands before the patches, without its position.
    """

    def __init__(self, parts: VisionTransformer, dtype: torch.dtype | None = None) -> None:
        self._parts = parts
        self.dtype = dtype or parts.projection.dtype
        self.blocks: list[Block] = [take_apart(layer, self.dtype) for layer in parts.layers]
        self.width, self.embed_dim = map(int, parts.projection.shape)
        self.heads = parts.heads
        self.tokens = len(parts.positions)
        self.projection = parts.projection
        self.class_token = parts.class_token

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The blocks by their parts."""
        return self._parts.layers

    @property
    def norms(self) -> tuple[nn.Module, nn.Module]:
        """The layer norms before the first block and behind the last one."""
        return self._parts.norm_pre, self._parts.norm

    @torch.no_grad()
    def below(self, pixels: Float[Tensor, "b 3 h w"], cut: Cut) -> Float[Tensor, "b *n w"]:
        """Return what images are at a cut, from which `above` goes on; these never change.

        Args:
            pixels: of images.
            cut: the number of frozen blocks: (b, l, w); "projection": (b, w); "pixels": what is given.
        """
        if cut == "pixels":
            return pixels
        if cut == "projection":
            return self._parts.norm(self.run(pixels, "pixels")[:, 0])
        self.check(cut)
        x = self._parts.norm_pre(self.embed(pixels))
        for block in self.blocks[: int(cut)]:
            x = self._attended(block, x, None, slice(None))
        return x.to(self.dtype)

    def above(
        self,
        state: Float[Tensor, "b *n z"],
        cut: Cut,
        prompts: Mapping[int, Float[Tensor, "#b m w"]] | None = None,
        changes: Changes = UNCHANGED,
    ) -> Float[Tensor, "b d"]:
        """Return the features of images, with what a method learns in the tower.

        Args:
            state: the images at the cut.
            cut: where it is; not the projection, whose images are `state @ projection`.
            prompts: see `run`.
            changes: see `run`.
        """
        states = self.run(state, cut, prompts, changes)
        return self.project(states[:, 0], changes)

    def run(
        self,
        state: Float[Tensor, "b *n z"],
        cut: Cut,
        prompts: Mapping[int, Float[Tensor, "#b m w"]] | None = None,
        changes: Changes = UNCHANGED,
        mask: Bool[Tensor, "n n"] | None = None,
        ends: Tokens = CLASS_TOKEN,
    ) -> Float[Tensor, "b k w"]:
        """Run the blocks above the cut; return the last states of some tokens, before the last norm.

        Args:
            state: the images at the cut.
            cut: where it is.
            prompts: by the block before which they stand, tokens behind all others: in the first one of these
                blocks they come in, before 0 ahead of its layer norm, and in the later ones they overwrite
                the states that they had become. 1 in the first place means the same for all images.
            changes: in the blocks and layer norms.
            mask: whether a token (a row) attends to another; all do where None.
            ends: the tokens that are asked for, negative ones from the end; the last block runs for these
                alone.

        Raises:
            UsageError: prompts or changes stand below the cut, or before a block that there is not.
        """
        first, prompts = _first(cut), prompts or {}
        self.check(first)
        self._check_above(cut, [*prompts, *changes.blocks], changes.norm_pre is not None)
        x, size = state, 0
        if cut == "pixels":
            x = self.embed(state)
            x, size = _placed(x, prompts.get(0), size)
            x = (changes.norm_pre or self._parts.norm_pre)(x)
        blocks = changes.of(self.blocks)
        for number in range(first, len(blocks)):
            if number or cut != "pixels":
                x, size = _placed(x, prompts.get(number), size)
            last = number == len(blocks) - 1
            x = self._attended(blocks[number], x, mask, ends if last else slice(None))
        return x

    def project(self, x: Float[Tensor, "*n w"], changes: Changes = UNCHANGED) -> Float[Tensor, "*n d"]:
        """Last layer norm and projection into the joint embedding."""
        return (changes.norm or self._parts.norm)(x) @ self.projection

    def embed(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b l w"]:
        """Return the class token and the patches of images, with their positions."""
        patches = self._parts.patches(pixels).flatten(2).transpose(1, 2)
        images = patches.shape[0]  # as a length it would be fixed in an exported graph
        token = self._parts.class_token.to(patches.dtype).expand(images, 1, -1)
        return torch.cat([token, patches], dim=1) + self._parts.positions.to(patches.dtype)

    def check(self, block: Cut) -> None:
        """Raise UsageError where there is no such block, or nothing above it."""
        if not 0 <= int(block) < len(self.blocks):
            raise UsageError(f"there is no block {block} in an image tower of {len(self.blocks)}")

    def state_numbers(self, cut: Cut) -> int:
        """Return how many numbers an image is at a cut; 0 for its pixels, of which there are as they are."""
        sizes = {"pixels": 0, "projection": self.width, "feature": self.embed_dim}
        return sizes[cut] if isinstance(cut, str) else self.tokens * self.width

    def bytes_of_one(self, cut: Cut) -> int:
        """Return about the bytes that the backward pass of one image keeps above a cut."""
        blocks = len(self.blocks) - _first(cut)
        return blocks * self.tokens * self.width * KEPT_BLOCK * self.projection.element_size()

    def _attended(
        self, block: Block, x: Float[Tensor, "b n w"], mask: Bool[Tensor, "n n"] | None, ends: Tokens
    ) -> Float[Tensor, "b k w"]:
        """Run one block, for some of the tokens."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (block.qkv(x).split(self.width, dim=-1))
        )
        allowed = None if mask is None else mask[ends]
        attended = F.scaled_dot_product_attention(q[:, :, ends], k, v, attn_mask=allowed)
        return block.finish(x[:, ends], attended.transpose(1, 2).flatten(2))

    def _check_above(self, cut: Cut, numbers: list[int], before: bool) -> None:
        for number in numbers:
            self.check(number)
        if (before and cut != "pixels") or any(number < _first(cut) for number in numbers):
            raise UsageError(f"something is learned below the cut of the image tower, at block {_first(cut)}")


def _first(cut: Cut) -> int:
    """Return the first block above a cut."""
    return 0 if cut == "pixels" else int(cut)


def _placed(
    x: Float[Tensor, "b n w"], prompts: Float[Tensor, "#b m w"] | None, size: int
) -> tuple[Float[Tensor, "b k w"], int]:
    """Put prompts behind all tokens, in place of the last `size`; return the states and how many they are."""
    if prompts is None:
        return x, size
    rest = x[:, : x.shape[1] - size]
    return torch.cat([rest, prompts.to(x.dtype).expand(x.shape[0], -1, -1)], dim=1), prompts.shape[1]
