"""ProText: deep language prompts learned from sentences alone (Khattak et al., AAAI 2025)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._prompts import TEXT, drawn
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods._sentences import EMBEDDED, pinned_source, read_sentences
from cocoop.text.prompt import Prompt, context_template, init_context


@dataclass(frozen=True)
class Config:
    """Settings of ProText.

    Attributes:
        sentences: JSON file with a list of sentences of every class, or "embedded" for those about the
            embedded datasets; prediction needs none.
        ctx_init: words whose embeddings the first vectors start from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        depth: transformer blocks with vectors of their own, all of the tower's at most.
        weight: of the squared distance.
    """

    sentences: str = EMBEDDED
    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    depth: int = 9
    weight: float = 1000.0

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise UsageError(f"depth must be at least 1, not {self.depth}")
        object.__setattr__(self, "sentences", pinned_source(self.sentences))


# The base-to-new configurations, where they differ from ImageNet's.
BY_DATASET: Mapping[str, Mapping[str, object]] = {
    "caltech101": {"ctx_init": None, "n_ctx": 16, "lr": 0.0025},
    "dtd": {"epochs": 200},
    "eurosat": {"ctx_init": None, "n_ctx": 16, "lr": 0.0025},
    "fgvc_aircraft": {"epochs": 200},
    "food101": {"ctx_init": None, "n_ctx": 8, "lr": 0.0025, "epochs": 50},
    "oxford_flowers": {"lr": 0.0025, "epochs": 150},
    "oxford_pets": {"epochs": 50},
    "stanford_cars": {"ctx_init": None, "n_ctx": 8, "lr": 0.0025},
    "sun397": {"ctx_init": None, "n_ctx": 8},
    "ucf101": {"ctx_init": None, "n_ctx": 16},
}


def _recipe(epochs: int) -> Recipe:
    """Return the released recipe; a batch is of sentences."""
    return Recipe(
        epochs=epochs,
        batch_size=256,
        lr=0.03,
        warmup_epochs=5,
        optimizer="adamw",
        weight_decay=0.1,
        beta2=0.98,
    )


@METHODS.register("protext")
class Model(nn.Module):
    """Deep prompts whose text feature of a class is drawn to those of its sentences (section 3)."""

    facts = Facts(
        name="ProText",
        summary="learns vectors before the blocks of the text tower from sentences about the classes, "
        "and sees no image",
        paper=Paper(
            title="Learning to Prompt with Text Only Supervision for Vision-Language Models",
            authors="Khattak et al.",
            venue="AAAI 2025",
            date="2024-01",
            link="https://arxiv.org/abs/2401.02418",
            code="https://github.com/muzairkhattak/ProText",
        ),
        images=False,
        sentences=True,
        extends="cupl",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "protext-released": Preset(
            Config(), _recipe(30), "the released base-to-new configurations; ImageNet's elsewhere", BY_DATASET
        ),
        "protext-transfer": Preset(
            Config(),
            _recipe(10),
            "the released cross-dataset configuration of ImageNet; its tests put the "
            "vectors into the datasets' own templates, ours do not",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        ctx = init_context(backbone, cfg.ctx_init, cfg.n_ctx, seed)
        deeper = min(cfg.depth, len(backbone.text.blocks)) - 1
        self.source, self.weight = cfg.sentences, cfg.weight
        self.prompts = (Prompt(context_template(cfg.ctx_init, len(ctx)), len(ctx)),)
        self.ctx = nn.Parameter(ctx)  # (m, w)
        self.deeper = nn.Parameter(drawn(seed, TEXT, deeper, *ctx.shape))  # (j - 1, m, w)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 jm w"]:
        """Return the vectors of every block in turn, the same for all images and classes."""
        return torch.cat([self.ctx[None], self.deeper.to(self.ctx)]).flatten(0, 1)[None, None]

    def sentences(self, class_names: Sequence[str]) -> Mapping[str, Sequence[Sequence[str]]]:
        """Return those of the file while it is trained, and none afterwards.

        Raises:
            UsageError: the file has none about a class.
        """
        if not self.training:
            return {}
        return {"targets": read_sentences(self.source, class_names, "protext")}

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """The weighted mean square of the difference of a class's feature and a sentence's.

        `out.zimg` are the sentences of the batch, as the method sees no images. The mean is over the
        numbers of the features too, as released.
        """
        return {"distance": self.weight * F.mse_loss(out.ztxt[0, labels], out.zimg)}
