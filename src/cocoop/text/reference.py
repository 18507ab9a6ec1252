"""The computation of the released implementation: every prompt padded to the full context, image by image.

It shares nothing with the token tree but the prompts' slots. Tests hold the engine to it, and
benchmarks measure against it; nothing else uses it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbone import Backbone
from cocoop.prompts import Prompt


def reference_features(
    backbone: Backbone, prompt: Prompt, class_names: Sequence[str], contexts: Float[Tensor, "b #c m w"]
) -> Float[Tensor, "b c d"]:
    """Return the L2-normalised text features of every class for every image's contexts, the naive way."""
    slots = prompt.slots(backbone.tokenize, class_names)
    tokens = torch.zeros(len(slots), backbone.context_length, dtype=torch.long, device=contexts.device)
    for row, prompt_slots in enumerate(slots):
        tokens[row, : len(prompt_slots)] = torch.tensor([max(slot.token, 0) for slot in prompt_slots])
    ends = torch.tensor([len(prompt_slots) - 1 for prompt_slots in slots], device=contexts.device)
    embedded = backbone.token_embedding[tokens]
    return torch.stack([_one_image(backbone, embedded, ends, slots, image) for image in contexts])


def _one_image(backbone: Backbone, embedded: Tensor, ends: Tensor, slots: list, context: Tensor) -> Tensor:
    rows = []
    for label, prompt_slots in enumerate(slots):
        own = context[label if len(context) > 1 else 0]
        vectors = [
            own[slot.ctx] if slot.ctx >= 0 else embedded[label, place]
            for place, slot in enumerate(prompt_slots)
        ]
        rows.append(torch.cat([torch.stack(vectors), embedded[label, len(vectors) :]]))
    text = backbone.text_tower
    x = torch.stack(rows) + text.positional_embedding
    x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask))
    x = x[torch.arange(len(x)), ends]
    projection = text.text_projection
    if projection is not None:
        x = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return F.normalize(x, dim=-1)
