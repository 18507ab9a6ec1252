"""Cross-modal adaptation: a linear probe to which texts are training samples, too (Lin et al., CVPR 2023)."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper, Selection
from cocoop.methods._hooks import NO_TEXT, Bank, Output, Text
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt
from cocoop.utils.seeding import checked

BETAS, EPS = (0.9, 0.999), 1e-8  # of AdamW
WARMUP, WARMUP_LR = 50, 1e-5  # steps, and the rate of the first one
EVERY = 100  # steps from one look at the validation images to the next


@dataclass(frozen=True)
class Config:
    """Settings of cross-modal adaptation with a linear head.

    Attributes:
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP; each is a sample of every class.
        updates: steps of AdamW.
        rates: highest learning rates to select from.
        decays: weight decays to select from.
        batches: sizes of a batch to select from; one half are images, the other texts.
        selects_on: the validation images that these and the best step are selected on; without any, the first
            of each and the last step are taken.
    """

    templates: tuple[str, ...] = (DATASET,)
    updates: int = 12_800
    rates: tuple[float, ...] = (1e-3, 1e-4)
    decays: tuple[float, ...] = (0.0, 0.01, 1e-4)
    batches: tuple[int, ...] = (8, 32)
    selects_on: Selection = "few-shot validation"

    def __post_init__(self) -> None:
        if not (self.rates and self.decays and self.batches):
            raise UsageError("rates, decays and batches need one value each, at least")
        if self.updates < 0 or min(self.batches) < 2 or min(self.rates) <= 0 or min(self.decays) < 0:
            raise UsageError("rates must be positive, batches at least 2, decays and updates at least 0")


class Point(NamedTuple):
    """What training with one setting came to.

    Attributes:
        right: validation images that are right.
        step: the first one with as many; the last one where there are no such images.
        head: the weights after it.
    """

    right: int
    step: int
    head: Float[Tensor, "c d"]


@METHODS.register("cross-modal")
class Model(nn.Module):
    """A linear head, started from the zero-shot weights, on images and texts in equal parts (section 3)."""

    facts = Facts(
        name="cross-modal adaptation",
        summary="is a linear probe that is trained on the classes' text features as if they were images",
        paper=Paper(
            title="Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models",
            authors="Lin et al.",
            venue="CVPR 2023",
            date="2023-01",
            link="https://arxiv.org/abs/2301.06267",
            code="https://github.com/linzhiqiu/cross_modal_adaptation",
        ),
        training="closed form",
        selects_on="few-shot validation",
        extends="linear-probe",
        bound=True,
        quick="cross-modal-quick",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "cross-modal-released": Preset(
            Config(),
            Recipe(epochs=0, views=2, augmentation="mirror"),
            "the released search for linear heads, with mirrored images",
            {"imagenet": {"templates": ("select7",)}},
        ),
        "cross-modal-quick": Preset(
            Config(updates=2000, rates=(1e-3,), decays=(0.0,), batches=(8,)),
            Recipe(epochs=0, views=2, augmentation="mirror"),
            "one point of the search and fewer steps, for the demo",
            {"imagenet": {"templates": ("select7",)}},
        ),
    }
    transferable = False

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.selects_on = cfg.selects_on
        self.prompts = (Prompt(template),)
        self.texts = {"samples": Templates(cfg.templates).texts(template)}
        self.width = backbone.width
        self.selected: dict[str, Any] = {}
        self.head = nn.Parameter(torch.zeros(n_classes, backbone.embed_dim))  # (c, d), see `fit`

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Return the scaled products of the head's rows and the normalised image features."""
        return out.logit_scale * out.zimg @ self.head[out.rows].T

    @torch.no_grad()
    def fit(self, bank: Bank) -> None:
        """Train with every setting; keep the head that is best on validation images, the first of equals.

        As released, a size of batch is left out if its halves are not smaller than the sets they come from.
        """
        cfg, images, texts = self.cfg, bank.fimg.shape[:2].numel(), bank.text["samples"].shape[:2].numel()
        sizes = [size for size in cfg.batches if size // 2 < texts and size - size // 2 < images]
        sizes = sizes or [min(cfg.batches)]
        settings = list(itertools.product(cfg.rates, cfg.decays))
        if not len(bank.fval):
            settings, sizes = settings[:1], sizes[:1]
        found = {size: train(bank, settings, size, cfg.updates) for size in sizes}
        points = [(each, size, found[size][i]) for i, each in enumerate(settings) for size in sizes]
        (rate, decay), batch, best = max(points, key=lambda point: point[2].right)
        self.head.copy_(best.head)
        self.selected = {"rate": rate, "decay": decay, "batch": batch, "step": best.step}

    def finish(self, bank: Bank) -> dict[str, Any]:
        """Return the setting and the step that were selected."""
        return self.selected


def train(bank: Bank, settings: Sequence[tuple[float, float]], size: int, updates: int) -> list[Point]:
    """Train a head with each learning rate and weight decay, side by side on the same batches."""
    views, (templates, classes) = len(bank.fimg), bank.text["samples"].shape[:2]
    zimg, ztxt = (F.normalize(each.flatten(0, 1), dim=-1) for each in (bank.fimg, bank.text["samples"]))
    zval = F.normalize(bank.fval, dim=-1)
    of_images, of_texts = bank.labels.repeat(views), torch.arange(classes).to(bank.labels).repeat(templates)
    generator = torch.Generator().manual_seed(checked(bank.seed))
    images = shuffled(len(zimg), size - size // 2, generator)
    texts = shuffled(len(ztxt), size // 2, generator)
    start = F.normalize(ztxt.view(templates, classes, -1).mean(0), dim=-1)
    heads = start.repeat(len(settings), 1, 1)  # (s, c, d)
    descent = AdamW(heads, *heads.new_tensor(settings).T[..., None, None])
    best = [Point(-1, 0, start)] * len(settings)
    for step in range(updates):
        some, others = next(images), next(texts)
        features, labels = (
            torch.cat([zimg[some], ztxt[others]]),
            torch.cat([of_images[some], of_texts[others]]),
        )
        descent(gradient(heads, features, labels, bank.logit_scale), step, updates)
        if len(zval) and step % EVERY == 0:
            right = ((heads @ zval.T).argmax(1) == bank.val_labels).sum(1).tolist()
            now = [Point(count, step + 1, head.clone()) for count, head in zip(right, heads, strict=True)]
            best = [new if new.right > old.right else old for old, new in zip(best, now, strict=True)]
    return best if len(zval) else [Point(0, updates, head) for head in heads]


def gradient(
    heads: Float[Tensor, "s c d"], features: Float[Tensor, "b d"], labels: Int[Tensor, " b"], scale: float
) -> Float[Tensor, "s c d"]:
    """Return the gradient of the mean cross-entropy of each head's scaled products with the features."""
    chance = (scale * features @ heads.mT).softmax(-1)  # (s, b, c)
    return scale / len(labels) * (chance - F.one_hot(labels, heads.shape[1])).mT @ features


class AdamW:
    """AdamW for several heads, each with a learning rate and a weight decay of its own.

    The rate rises over the first steps and then goes down by a cosine over all steps that counts from the
    end of the warm-up, so that it does not reach zero; the released implementation does the same.

    Args:
        heads: changed in place.
        rates: highest learning rates.
        decays: weight decays.
    """

    def __init__(
        self, heads: Float[Tensor, "s c d"], rates: Float[Tensor, "s 1 1"], decays: Float[Tensor, "s 1 1"]
    ) -> None:
        self.heads, self.rates, self.decays = heads, rates, decays
        self.mean, self.square = torch.zeros_like(heads), torch.zeros_like(heads)

    def __call__(self, gradient: Float[Tensor, "s c d"], step: int, steps: int) -> None:
        """Take a step, counted from 0."""
        rate, (first, second) = self._rate(step, steps), BETAS
        self.mean.lerp_(gradient, 1 - first)
        self.square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        mean, square = self.mean / (1 - first ** (step + 1)), self.square / (1 - second ** (step + 1))
        self.heads.mul_(1 - rate * self.decays).sub_(rate * mean / (square.sqrt() + EPS))

    def _rate(self, step: int, steps: int) -> Float[Tensor, "s 1 1"]:
        if step == 0:
            return torch.full_like(self.rates, WARMUP_LR)
        if step < WARMUP:
            return self.rates * (step / WARMUP)
        return self.rates * (0.5 * (1 + math.cos(math.pi * (step - WARMUP) / steps)))


def shuffled(count: int, size: int, generator: torch.Generator) -> Iterator[Int[Tensor, " b"]]:
    """Yield batches of indices for ever, shuffled anew in every pass; a smaller last one is dropped."""
    size = min(size, count)
    while True:
        yield from torch.randperm(count, generator=generator)[: count - count % size].split(size)
