"""TCP: vectors made from each class's frozen text feature, inside the text tower (Yao et al., CVPR 2024)."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._parts import DATASET, own_template
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import PLACEHOLDER, Prompt, init_context
from cocoop.utils.seeding import seeded

EPS = 1e-7  # of the cosine, as released
REDUCTION = 4  # of the text feature, to the hidden layer


@dataclass(frozen=True)
class Config:
    """Settings of TCP.

    Attributes:
        n_ctx: M, the number of learned vectors, and of class tokens.
        words: what follows the vectors, with `{}` for the class name.
        teacher: the hand-written prompt with `{}` for the class name; "dataset" for the dataset's own.
        block: the transformer block, counted from 0, before which the class tokens replace the vectors; the
            last one where the tower has no more.
        weight: of the knowledge term; 8 in the released code, whose setting for it is not read.
    """

    n_ctx: int = 4
    words: str = "{}."
    teacher: str = DATASET
    block: int = 8
    weight: float = 8.0

    def __post_init__(self) -> None:
        if self.block < 1:
            raise UsageError(f"block must be at least 1, since block 0 reads the vectors, not {self.block}")
        if not 0 <= self.weight < math.inf:
            raise UsageError(f"weight must be a number from 0 on, not {self.weight}")


# As released: the words behind the vectors, "{}." elsewhere (those of Cars lack a full stop there too), and
# teachers that are not the datasets' own templates. A prompt tested on another dataset keeps its words and
# teacher; the released code takes those of that dataset.
BY_DATASET: dict[str, dict[str, Any]] = {
    "oxford_pets": {"words": "{}, a type of pet."},
    "oxford_flowers": {"words": "{}, a type of flower."},
    "fgvc_aircraft": {"words": "{}, a type of aircraft.", "teacher": "a photo of an aircraft {}."},
    "dtd": {"words": "{} texture.", "teacher": "a photo of a {}, a type of texture."},
    "stanford_cars": {"words": "{}, a type of car"},
    "food101": {"words": "{}, a type of food.", "teacher": "a photo of a {}, a type of food."},
    "ucf101": {"words": "person doing {}."},
}
SHORTER = {"sun397": {"epochs": 25}, "imagenet": {"epochs": 25}}


@METHODS.register("tcp")
class Model(nn.Module):
    """Learned vectors, and class tokens that replace them inside the text tower (section 3)."""

    facts = Facts(
        name="TCP",
        summary="replaces its vectors, late in the text tower, by some made from each class's frozen feature",
        paper=Paper(
            title="TCP: Textual-based Class-aware Prompt tuning for Visual-Language Model",
            authors="Yao et al.",
            venue="CVPR 2024",
            date="2023-11",
            link="https://arxiv.org/abs/2311.18231",
            code="https://github.com/htyao89/Textual-based_Class-aware_prompt_tuning",
        ),
        extends="kgcoop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "tcp-released": Preset(
            Config(),
            Recipe(epochs=50, batch_size=32, optimizer="adam", eps=1e-3),
            "the released code",
            BY_DATASET | SHORTER,
        ),
        "tcp-quick": Preset(
            Config(),
            Recipe(epochs=20, batch_size=32, optimizer="adam", eps=1e-3),
            "fewer epochs than released, for the demo",
            BY_DATASET,
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        block = min(cfg.block, len(backbone.text.blocks) - 1)
        if block < 1:
            raise UsageError(f"TCP needs a text tower of two blocks; {backbone.name} has one")
        ctx = init_context(backbone, None, cfg.n_ctx, seed)
        hidden = max(1, backbone.embed_dim // REDUCTION)
        self.weight = cfg.weight
        self.prompts = (
            Prompt(
                f"{' '.join([PLACEHOLDER] * cfg.n_ctx)} {cfg.words}",
                cfg.n_ctx,
                class_specific=True,
                deeper=(block,),
                shared_blocks=block,
            ),
        )
        self.texts = {"teacher": (own_template(cfg.teacher, template),)}
        self.ctx = nn.Parameter(ctx)  # (m, w)
        with seeded(seed):
            self.meta_net = nn.Sequential(
                OrderedDict(
                    linear1=nn.Linear(backbone.embed_dim, hidden),
                    gelu=QuickGELU(),
                    linear2=nn.Linear(hidden, ctx.numel()),
                )
            )

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 c jm w"]:
        """Return the vectors, and behind them the class tokens of every class; the same for all images."""
        tokens = self.meta_net(F.normalize(text["teacher"][0], dim=-1)).unflatten(-1, self.ctx.shape)
        return torch.cat([self.ctx.expand_as(tokens), tokens], dim=1)[None]

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross-entropy, and weight (1 - mean cosine of learned and hand-written text features)."""
        cosine = F.cosine_similarity(out.ztxt[0], out.text["teacher"][0], dim=-1, eps=EPS)
        return {
            "cross-entropy": F.cross_entropy(out.logits, labels),
            "knowledge": self.weight * (1 - cosine.mean()),
        }
