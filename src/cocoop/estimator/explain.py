"""`cocoop explain`: the words nearest to the learned vectors, and how the Meta-Net moves them for an image.

Nearest is by Euclidean distance in the token table of the backbone that the model was trained on, as in CoOp
(section 4.2). The words seldom read as a prompt: the vectors stand between them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.estimator.estimator import PromptClassifier
from cocoop.methods import facts_of, ordered

CLASSES = 20  # classes shown of a model that has vectors for each
NAMES = 3  # likeliest names shown for an image


class Word(NamedTuple):
    """An entry of the token table, and how far a vector is from it."""

    text: str
    distance: float


def nearest_words(backbone: Backbone, vectors: Float[Tensor, "m w"], count: int) -> list[list[Word]]:
    """Return the `count` nearest words to every vector, nearest first."""
    tokens = torch.tensor([token for token, _ in backbone.words()], device=backbone.device)
    table = backbone.token_embedding[tokens].float()
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(vectors.to(table.device).float(), table, compute_mode=exact)
    values, places = distances.topk(count, largest=False)
    rows = zip(tokens[places].tolist(), values.tolist(), strict=True)
    return [[Word(backbone.word(t), d) for t, d in zip(*row, strict=True)] for row in rows]


@torch.no_grad()
def explain(model: PromptClassifier, image: Path | None, words: int, console: Console) -> None:
    """Print what the model learned, and with an image what the Meta-Net makes of it.

    Raises:
        UsageError: an image is given for a model whose vectors do not depend on images.
        CocoopError: the image cannot be read.
    """
    learned = getattr(model.method_, "ctx", None)
    label = model.info_.prompt.method
    if learned is None:
        templates = ", ".join(repr(prompt.template) for prompt in model.method_.prompts)
        console.print(
            f"{label} learns no context vectors; its prompt is {templates}", highlight=False, soft_wrap=True
        )
        return
    if learned.dim() == 3 and len(learned) > 1:
        _say_classes(model, learned, console)
    else:
        _say_vectors(model, learned.reshape(-1, learned.shape[-1]), words, console)
    if image:
        if not facts_of(label).conditional:
            others = ", ".join(name for name in ordered() if facts_of(name).conditional)
            raise UsageError(f"{label} has the same vectors for all images; --image is for {others}")
        fimg = model.features(image)
        contexts = model.method_(F.normalize(fimg, dim=-1).to(model.backbone_.device))
        _say_image(model, learned, contexts[0, 0], fimg, words, console)


def _say_vectors(
    model: PromptClassifier, learned: Float[Tensor, "m w"], words: int, console: Console
) -> None:
    clip, prompt = model.backbone_, model.method_.prompts[0]
    table = Table(title="context vectors, the same for all images", title_justify="left", header_style="bold")
    for column in ("vector", "began as", "moved by", "nearest words (distance)"):
        table.add_column(column)
    start = clip.tokenize.words(prompt.fill(""))[: prompt.n_ctx]
    words_given = model.info_.prompt.config.get("ctx_init")
    unsaid = "not known" if "imported" in model.info_.prompt.notes else "random"
    for index, near in enumerate(nearest_words(clip, learned, words)):
        moved = (learned[index] - clip.token_embedding[start[index]]).norm().item()
        began = (clip.word(start[index]), f"{moved:.2f}") if words_given else (unsaid, "")
        table.add_row(f"v{index + 1}", *began, _listed(near))
    console.print(table)
    other = _nearest_neighbour(clip, start)
    console.print(
        f"For scale: words such as the first are {other:.2f} from their own nearest word.",
        highlight=False,
        soft_wrap=True,
    )


def _say_classes(model: PromptClassifier, learned: Float[Tensor, "c m w"], console: Console) -> None:
    names = model.info_.prompt.class_names
    table = Table(
        title="nearest word to the vectors of each class", title_justify="left", header_style="bold"
    )
    for column in ("class", *(f"v{index + 1}" for index in range(learned.shape[1]))):
        table.add_column(column)
    for name, vectors in list(zip(names, learned, strict=True))[:CLASSES]:
        table.add_row(name, *(near[0].text for near in nearest_words(model.backbone_, vectors, 1)))
    console.print(table)
    if len(names) > CLASSES:
        console.print(f"and {len(names) - CLASSES} more classes", highlight=False, soft_wrap=True)


def _say_image(
    model: PromptClassifier,
    learned: Float[Tensor, "m w"],
    shifted: Float[Tensor, "m w"],
    fimg: Float[Tensor, "1 d"],
    words: int,
    console: Console,
) -> None:
    """Print the vectors of one image, and what the shift does to the answer."""
    shifts = (shifted - learned).norm(dim=-1)
    count = int((shifts > 0).sum()) or len(learned)
    which = "every vector" if count == len(learned) else f"the last {count} vectors"
    console.print(
        f"\nfor this image the Meta-Net moves {which} by {shifts[-1].item():.3f} "
        f"(the vectors have a length of {learned.norm(dim=-1).mean().item():.2f})",
        highlight=False,
        soft_wrap=True,
    )
    before, after = (nearest_words(model.backbone_, vectors, words) for vectors in (learned, shifted))
    table = Table(header_style="bold")
    for column in ("vector", "nearest words before", "and for this image"):
        table.add_column(column)
    for index, (one, two) in enumerate(zip(before, after, strict=True)):
        table.add_row(f"v{index + 1}", _listed(one), _listed(two))
    console.print(table)
    if not model.info_.prompt.class_names:
        return
    classifier = model.classifier()
    without = classifier.pair(fimg.to(learned.device), classifier.encode(learned[None, None])).logits
    for what, logits in (("without the shift", without.cpu()), ("with it", classifier(fimg).cpu())):
        console.print(
            f"{what}: {_answers(model, logits, model.info_.prompt.class_names)}",
            highlight=False,
            soft_wrap=True,
        )


def _answers(model: PromptClassifier, logits: Float[Tensor, "1 c"], names: Sequence[str]) -> str:
    several = model.info_.multilabel
    shares, form = (
        (several.scores(logits, names), "{} {:.2f}") if several else (logits.softmax(1), "{} {:.1%}")
    )
    values, places = shares[0].topk(min(NAMES, len(names)))
    return ", ".join(form.format(names[i], p) for i, p in zip(places.tolist(), values.tolist(), strict=True))


def _nearest_neighbour(backbone: Backbone, tokens: Sequence[int]) -> float:
    """Return how far a word is from the next one, as a measure for the other distances."""
    near = nearest_words(backbone, backbone.token_embedding[list(tokens[:1])], 2)
    return near[0][1].distance


def _listed(words: Sequence[Word]) -> str:
    return ", ".join(f"{word.text} {word.distance:.2f}" for word in words)
