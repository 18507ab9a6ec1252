"""CoPrompt: MaPLe with adapters, consistent with the frozen towers' view of other views (ICLR 2024)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.errors import UsageError
from cocoop.methods import METHODS, maple
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Sentences, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods._sentences import EMBEDDED, pinned_source, read_sentences
from cocoop.utils.seeding import seeded

EPS = 1e-7  # of the cosines, as released
REDUCTION = 4  # how many times smaller an adapter is inside
PAIR = 2  # views of an image in a step: one is learned from, the other seen by the frozen tower


@dataclass(frozen=True)
class Config:
    """Settings of CoPrompt.

    Attributes:
        sentences: JSON file with a list of sentences of every class, or "embedded" for those about the
            embedded datasets; prediction needs none.
        ctx_init: words whose first embeddings the vectors start from, or None for random vectors.
        n_ctx: M, the number of vectors before each block.
        depth: J, blocks of both towers with vectors of their own, those of the shorter tower at most.
        weight: λ of the consistency of texts and of images.
        ratio_text: share of the adapter's output in the adapted text feature.
        ratio_image: share of the adapter's output in the adapted image feature.
    """

    sentences: str = EMBEDDED
    ctx_init: str | None = "a photo of a"
    n_ctx: int = 2
    depth: int = 9
    weight: float = 1.0
    ratio_text: float = 0.2
    ratio_image: float = 0.1

    def __post_init__(self) -> None:
        self.vectors()  # checks them
        object.__setattr__(self, "sentences", pinned_source(self.sentences))
        if not self.weight >= 0:
            raise UsageError(f"weight must be a number from 0 on, not {self.weight}")
        for name in ("ratio_text", "ratio_image"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 to 1, not {getattr(self, name)}")

    def vectors(self) -> maple.Config:
        """Return the settings of the vectors alone."""
        return maple.Config(self.ctx_init, self.n_ctx, self.depth)


# The released code sets these behind its configuration, which has others.
BY_DATASET: Mapping[str, Mapping[str, Any]] = {
    "imagenet": {"depth": 12, "n_ctx": 4, "weight": 8.0},
    "caltech101": {"depth": 12, "n_ctx": 4, "weight": 4.0},
    "oxford_pets": {"depth": 12, "weight": 0.1},
    "stanford_cars": {"depth": 12, "n_ctx": 4, "weight": 4.0},
    "oxford_flowers": {"n_ctx": 4, "weight": 8.0},
    "food101": {"n_ctx": 4, "weight": 0.5, "epochs": 5},
    "fgvc_aircraft": {"n_ctx": 4, "weight": 2.0},
    "sun397": {"depth": 12, "n_ctx": 4, "weight": 8.0},
    "dtd": {"depth": 12, "weight": 8.0},
    "eurosat": {"depth": 12, "weight": 0.1},
    "ucf101": {"depth": 12, "n_ctx": 4, "weight": 2.0},
}


class Adapter(nn.Module):
    """A bottleneck without biases, ReLU behind both layers, mixed with the feature as it was.

    Args:
        size: of a feature.
        ratio: share of the bottleneck's output.
    """

    def __init__(self, size: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.down = nn.Linear(size, size // REDUCTION, bias=False)
        self.up = nn.Linear(size // REDUCTION, size, bias=False)

    def forward(self, feature: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the adapted features, L2-normalised; the given ones are raw."""
        change = self.up(self.down(feature).relu()).relu()
        return F.normalize(self.ratio * change + (1 - self.ratio) * feature, dim=-1)


@METHODS.register("coprompt")
class Model(nn.Module):
    """MaPLe's vectors and two adapters, near sentences and near other views of the images (section 3.2)."""

    facts = Facts(
        name="CoPrompt",
        summary="is MaPLe with a small network on either feature; both stay near the frozen features of "
        "sentences about the classes and of another view of each image",
        paper=Paper(
            title="Consistency-guided Prompt Learning for Vision-Language Models",
            authors="Roy and Etemad",
            venue="ICLR 2024",
            date="2023-06",
            link="https://arxiv.org/abs/2306.01195",
            code="https://github.com/ShuvenduRoy/CoPrompt",
        ),
        sentences=True,
        cut="pixels",
        extends="maple",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "coprompt-released": Preset(
            Config(),
            Recipe(epochs=8, batch_size=4, lr=0.0035, augmentation="randaugment"),
            "the released configuration, with the values of single datasets that its code sets",
            BY_DATASET,
        ),
        "coprompt-quick": Preset(
            Config(),
            Recipe(epochs=5, batch_size=4, lr=0.0035, augmentation="randaugment"),
            "fewer epochs than released, for the demo",
            BY_DATASET,
        ),
    }
    transferable = True
    cut: Cut = "pixels"
    step_views = PAIR

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.base = maple.Model(cfg.vectors(), backbone, template=template, n_classes=n_classes, seed=seed)
        self.prompts, self.source, self.weight = self.base.prompts, cfg.sentences, cfg.weight
        with seeded(seed):
            self.adapt_text = Adapter(backbone.embed_dim, cfg.ratio_text)
            self.adapt_image = Adapter(backbone.embed_dim, cfg.ratio_image)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 jm w"]:
        """Return MaPLe's vectors of every block in turn, the same for all images and classes."""
        return self.base(zimg, text)

    def image(self, state: Float[Tensor, "b *k 3 h w"], tower: VisionTower) -> Float[Tensor, "b kd"]:
        """Return MaPLe's features of images; of pairs of views, those of the frozen tower behind them."""
        if state.dim() == 4:
            return self.base.image(state, tower)
        ours, other = state.unbind(1)
        with torch.no_grad():
            frozen = tower.above(other, self.cut)
        return torch.cat([self.base.image(ours, tower), frozen], dim=1)

    def sentences(self, class_names: Sequence[str]) -> Mapping[str, Sequence[Sequence[str]]]:
        """Return those of the file while it is trained, and none afterwards.

        Raises:
            UsageError: the file has none about a class.
        """
        if not self.training:
            return {}
        return {"teacher": read_sentences(self.source, class_names, "coprompt")}

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine of adapted image and text features."""
        return out.logit_scale * self.adapt_image(out.fimg) @ self.adapt_text(out.ftxt[0]).T

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross-entropy, and λ (1 - mean cosine) of adapted and frozen features, of texts and of images."""
        pairs = {
            "text": (self.adapt_text(out.ftxt[0]), _one_of_each(out.sentences["teacher"], out.ftxt.shape[1])),
            "image": (self.adapt_image(out.fimg), out.others[:, 0]),
        }
        distances = {
            name: 1 - F.cosine_similarity(ours, frozen, dim=-1, eps=EPS).mean()
            for name, (ours, frozen) in pairs.items()
        }
        return {
            "cross-entropy": F.cross_entropy(out.logits, labels),
            **{name: self.weight * distance for name, distance in distances.items()},
        }


def _one_of_each(sentences: Sentences, classes: int) -> Float[Tensor, "c d"]:
    """Return the features of one sentence of every class: for all the same, by a number drawn for the step.

    Where some classes have fewer sentences, theirs are counted round; the released files have as many of
    each.
    """
    labels = sentences.labels
    counts = labels.new_zeros(classes).index_add(0, labels, torch.ones_like(labels))
    number = (torch.rand(()) * counts.max()).long()
    return sentences.features[counts.cumsum(0) - counts + number % counts]
