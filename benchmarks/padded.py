"""The text side of one training step on towers without a token tree: padded batches against a naive loop.

    python -m benchmarks.padded --out benchmarks/padded.json

The naive loop does what the released code would do with such a tower: all classes of one image after
another, padded to the whole context that the tokenizer gives.
"""

import gc
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import open_clip
import torch
import typer
from torch import Tensor, nn

from benchmarks.measure import Job, alternate, compare, machine, peak_memory_mb, versions
from benchmarks.text import class_names
from cocoop.backbones.clip import Backbone
from cocoop.backbones.families.open_clip import parts
from cocoop.backbones.text_model import Placed, TextModel, placed
from cocoop.text.padded import PaddedEncoder
from cocoop.text.prompt import Prompt
from cocoop.text.tree_encoder import TreeEncoder
from cocoop.utils.files import write_json
from cocoop.utils.seeding import seeded

PROMPT = Prompt("a photo of a {}.", 4)
VISION = {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 32}
WORDS = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
BERT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def towers() -> dict[str, Callable[[], Backbone]]:
    """Return towers of released sizes, untrained, with CLIP's tokenizer; speed does not depend on either."""
    return {
        "BERT base, padding masked": _bert,
        "bidirectional CLIP text transformer (MobileCLIP)": lambda: _open_clip(
            {**WORDS, "no_causal_mask": True}
        ),
        "SigLIP base": lambda: _open_clip(
            {
                **WORDS,
                "context_length": 64,
                "width": 768,
                "heads": 12,
                "no_causal_mask": True,
                "pool_type": "last",
            }
        ),
    }


def _open_clip(text: dict[str, Any]) -> Backbone:
    with seeded(0):
        model = open_clip.CustomTextCLIP(512, VISION, text)
    return Backbone("tower", parts(model))


def _bert() -> Backbone:
    """ALIGN's text tower, in place of another's."""
    from dataclasses import replace

    from transformers import BertConfig, BertModel

    with seeded(0):
        bert = BertModel(
            BertConfig(vocab_size=49408, max_position_embeddings=77, **BERT), add_pooling_layer=False
        )
        model = open_clip.CustomTextCLIP(768, VISION, {**WORDS, "layers": 1})
    bert.eval().requires_grad_(False)

    def encode(tokens: Tensor) -> Tensor:
        mask = (tokens != 0).long()
        return bert(input_ids=tokens, attention_mask=mask).last_hidden_state[:, 0]

    text = TextModel(
        module=bert,
        encode=encode,
        embedding=bert.embeddings.word_embeddings,
        blocks=tuple(bert.encoder.layer),
        embed_dim=768,
        context_length=77,
        fixed_length=False,
        reason="its attention is not causal",
    )
    return Backbone("tower", replace(parts(model), model=nn.ModuleList([bert, model.visual]), text=text))


class _Side:
    """One of the two paths with its inputs."""

    def __init__(self, side: str, clip: Backbone, names: Sequence[str], batch: int) -> None:
        slots = PROMPT.slots(clip.tokenize, names)
        self._encode: Callable[[Tensor], Tensor] = (
            PaddedEncoder(clip, PROMPT, slots, None, True) if side == "engine" else _Loop(clip, slots)
        )
        generator = torch.Generator().manual_seed(0)
        words = clip.embed_words("a photo of a")
        noise = torch.randn(batch, 1, *words.shape, generator=generator)
        self.contexts = words + 0.1 * words.std() * noise
        self.image = nn.functional.normalize(torch.randn(batch, clip.embed_dim, generator=generator), dim=-1)

    def logits(self, contexts: Tensor) -> Tensor:
        return 100 * torch.einsum("bd,bcd->bc", self.image, self._encode(contexts))

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.logits(self.contexts)

    def step(self) -> Tensor:
        """Forward and backward to the context vectors; return their gradient."""
        contexts = self.contexts.clone().requires_grad_()
        labels = torch.zeros(len(contexts), dtype=torch.long)
        nn.functional.cross_entropy(self.logits(contexts), labels).backward()
        assert contexts.grad is not None
        return contexts.grad


class _Loop:
    """All classes of one image after another, padded to the whole context."""

    def __init__(self, clip: Backbone, slots: Sequence[tuple[Any, ...]]) -> None:
        self._clip = clip
        tokens = torch.zeros(len(slots), clip.context_length, dtype=torch.long)
        for row, each in enumerate(slots):
            tokens[row, : len(each)] = torch.tensor([max(slot.token, 1) for slot in each])
        self._tokens = tokens
        self._rows = torch.arange(len(slots)).repeat_interleave(PROMPT.n_ctx)
        self._columns = torch.arange(1, 1 + PROMPT.n_ctx).repeat(len(slots))

    def __call__(self, contexts: Tensor) -> Tensor:
        return torch.stack([self._one(context[0]) for context in contexts])

    def _one(self, context: Tensor) -> Tensor:
        vectors = context.repeat(len(self._tokens), 1)
        with placed(Placed(self._rows, self._columns, {0: vectors})):
            return nn.functional.normalize(self._clip.text.encode(self._tokens), dim=-1)


def bench_padded(tower: str, classes: int = 50, batch: int = 1, repeats: int = 5) -> dict[str, Any]:
    """Measure CoCoOp's text side on one tower, `batch` images against `classes` names."""
    names = class_names(classes)
    clip = towers()[tower]()
    assert not isinstance(clip.text.transformer, TreeEncoder)
    jobs = {side: _Side(side, clip, names, batch) for side in ("reference", "engine")}
    slots = PROMPT.slots(clip.tokenize, names)
    longest = clip.context_length if clip.text.fixed_length else max(map(len, slots))
    result: dict[str, Any] = {
        "tower": tower,
        "classes": classes,
        "batch": batch,
        "tokens": {"reference": clip.context_length, "engine": longest},
        "max_logit_diff": float((jobs["reference"].forward() - jobs["engine"].forward()).abs().max()),
        "max_grad_diff": float((jobs["reference"].step() - jobs["engine"].step()).abs().max()),
        "max_grad": float(jobs["reference"].step().abs().max()),
    }
    gc.collect()
    share = longest / clip.context_length
    for what, grad in (("train", True), ("eval", False)):
        sides = {side: job.step if grad else job.forward for side, job in jobs.items()}
        seconds = alternate(sides, repeats, time.process_time)  # others may use the machine
        result[what] = compare(seconds, share)
    del jobs, clip
    gc.collect()
    memory = {side: peak_memory_mb(_prepare, side, tower, names, batch) for side in ("reference", "engine")}
    ratio = memory["reference"] / memory["engine"]
    result["memory"] = {f"{side}_mb": value for side, value in memory.items()} | {"ratio": ratio}
    return result | {"machine": machine(), "versions": versions()}


def _prepare(side: str, tower: str, names: Sequence[str], batch: int) -> Job:
    return _Side(side, towers()[tower](), names, batch).step


def main(
    classes: Annotated[int, typer.Option(help="How many class names.")] = 50,
    batch: Annotated[int, typer.Option(help="Images, each with its own context.")] = 1,
    repeats: Annotated[int, typer.Option(help="Measured runs of each side.")] = 5,
    out: Annotated[Path | None, typer.Option(help="JSON file for all figures.")] = None,
) -> None:
    """Measure every tower, on one thread."""
    torch.set_num_threads(1)
    rows = []
    for tower in towers():
        row = bench_padded(tower, classes, batch, repeats)
        rows.append(row)
        print(json.dumps(row, indent=2))
    if out:
        write_json(out, rows)


if __name__ == "__main__":
    typer.run(main)
