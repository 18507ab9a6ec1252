"""The computation of the released implementation: every prompt padded to the full context, image by image.

It shares nothing with the token tree but the prompts' slots. Tests hold the engine to it, and
benchmarks measure against it; nothing else uses it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.block import UNCHANGED, Changes
from cocoop.backbones.clip import Backbone
from cocoop.text.prompt import Prompt


class ReferenceEncoder:
    """Text features the naive way, with the call of `TextEncoder`.

    Args:
        backbone: the frozen CLIP.
        prompt: one prompt; ensembles are averages of several encoders.
        class_names: candidates.

    Attributes:
        memory_budget: none is kept: a step holds what it holds.
    """

    memory_budget = None

    def __init__(self, backbone: Backbone, prompt: Prompt, class_names: Sequence[str]) -> None:
        self._backbone = backbone
        self._prompt = prompt
        if prompt.added:
            raise ValueError("the released implementation of CoOp has vectors in place of tokens alone")
        slots = prompt.slots(backbone.tokenize, class_names)
        tokens = torch.zeros(len(slots), backbone.context_length, dtype=torch.long)
        learned: list[tuple[int, int, int, int]] = []  # row, column, class, vector
        for row, prompt_slots in enumerate(slots):
            for column, slot in enumerate(prompt_slots):
                if slot.ctx >= 0:
                    learned.append((row, column, max(slot.cls, 0), slot.ctx))
                else:
                    tokens[row, column] = slot.token
        self._embedded = backbone.token_embedding[tokens.to(backbone.device)]
        self._ends = torch.tensor([len(prompt_slots) - 1 for prompt_slots in slots], device=backbone.device)
        self._learned = torch.tensor(learned, device=backbone.device).view(-1, 4).unbind(1)

    def __call__(
        self, contexts: Float[Tensor, " b #c m w"], changes: Changes = UNCHANGED
    ) -> Float[Tensor, "b c d"]:
        """Return the L2-normalised text features of every class for every image's contexts.

        Raises:
            ValueError: the tower is changed, which no such computation was released for.
        """
        if changes is not UNCHANGED:
            raise ValueError("the reference encodes in an unchanged tower alone")
        return torch.stack([self._one_image(context) for context in contexts])

    def _one_image(self, context: Float[Tensor, "#c m w"]) -> Float[Tensor, "c d"]:
        text = self._backbone.text_tower
        rows, columns, classes, vectors = self._learned
        first, *others = context.split(max(1, self._prompt.n_ctx), dim=1)
        deeper = dict(zip(self._prompt.deeper or range(1, len(others) + 1), others, strict=True))
        own = torch.zeros_like(classes) if self._prompt.shared_blocks > 0 else classes
        x = self._embedded.index_put((rows, columns), first[own, vectors])
        x = x + text.positional_embedding
        for number, block in enumerate(text.transformer.resblocks):
            if number in deeper:
                own = torch.zeros_like(classes) if self._prompt.shared_blocks > number else classes
                x = x.index_put((rows, columns), deeper[number][own, vectors])
            x = block(x, attn_mask=text.attn_mask)
        x = text.ln_final(x)
        x = x[torch.arange(len(x), device=x.device), self._ends]
        projection = text.text_projection
        if projection is not None:
            x = projection(x) if isinstance(projection, nn.Linear) else x @ projection
        return F.normalize(x, dim=-1)
