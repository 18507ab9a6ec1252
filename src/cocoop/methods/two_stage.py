"""2SFS: the layer norms of both towers first, then a classifier on top (Farina et al., CVPR 2025)."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.block import Change, Changes, Step
from cocoop.backbones.clip import Backbone
from cocoop.backbones.text_model import Layer
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt

TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class Config:
    """Settings of 2SFS.

    Attributes:
        outer_norms: whether the layer norms before the first block and behind the last one are learned too.
            The released code hands them to the optimiser, and freezes them again before it begins.
    """

    outer_norms: bool = False


RECIPE = Recipe(
    epochs=0,
    steps_per_shot=300,
    first_stage=0.6,
    batch_size=32,
    lr=2e-4,
    lr_end=1e-6,
    schedule="step",
    optimizer="adamw",
    weight_decay=0.01,
)


@METHODS.register("two-stage")
class Model(nn.Module):
    """Learned copies of the layer norms, and weights of the training classes that start from their texts.

    The second stage leaves the norms as they are. It answers among the training classes; new ones are asked
    by the text tower of the first, and so are all where a list has both.
    """

    facts = Facts(
        name="2SFS",
        summary="tunes the layer norms of both towers, then a linear classifier that starts from the texts",
        paper=Paper(
            title="Rethinking Few-Shot Adaptation of Vision-Language Models in Two Stages",
            authors="Farina et al.",
            venue="CVPR 2025",
            date="2025-03",
            link="https://arxiv.org/abs/2503.11609",
            code="https://github.com/FarinaMatteo/rethinking_fewshot_vlms",
        ),
        cut="pixels",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "two-stage-released": Preset(Config(), RECIPE, "the released configuration, as its code trains"),
        "two-stage-paper": Preset(
            Config(outer_norms=True),
            RECIPE,
            "the released configuration, with all layer norms as in the paper",
        ),
        "two-stage-quick": Preset(
            Config(),
            replace(RECIPE, steps_per_shot=0, epochs=20, lr=2e-3),
            "fewer steps than released at ten times the rate, for the demo",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        tower, text = backbone.vision, backbone.text
        if text.transformer is None:
            raise UsageError(f"the layer norms of this text tower are not known one by one: {text.reason}")
        parts = text.transformer()
        self.cut: Cut = "pixels"
        self.width = backbone.width
        self.prompts = (Prompt(TEMPLATE),)
        self.image_norms = _copies(tower.layers)
        self.text_norms = _copies(parts.layers)
        self.image_outer = _copied(tower.norms if cfg.outer_norms else ())
        self.text_outer = _copied((parts.norm,) if cfg.outer_norms else ())
        self.classifier = nn.Parameter(torch.empty(0, backbone.embed_dim))  # (c, d) in the second stage

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def image(self, state: Float[Tensor, "b 3 h w"], tower: VisionTower) -> Float[Tensor, "b d"]:
        """Return the features of the tower with its learned layer norms."""
        before, behind = self.image_outer or (None, None)
        return tower.above(state, self.cut, changes=self._changes(self.image_norms, before, behind))

    def text_changes(self) -> Changes:
        """Return the learned layer norms of the text tower."""
        (behind,) = self.text_outer or (None,)
        return self._changes(self.text_norms, None, behind)

    def second_stage(self, ftxt: Float[Tensor, "c d"]) -> None:
        """Start the classifier from the text features of the first stage."""
        self.classifier.data = F.normalize(ftxt, dim=-1).to(self.classifier.dtype)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Return CLIP's logits, among the training classes and from the second stage on the classifier's."""
        if out.rows is None or not len(self.classifier):
            return out.similarity
        return out.logit_scale * out.zimg @ F.normalize(self.classifier[out.rows], dim=-1).T

    def _changes(self, norms: nn.ModuleList, before: nn.Module | None, behind: nn.Module | None) -> Changes:
        def learned(norm: nn.Module) -> Step:
            return partial(_frozen, norm) if len(self.classifier) else norm

        pairs = zip(norms[::2], norms[1::2], strict=True)
        return Changes(
            {
                number: Change(norm_1=learned(first), norm_2=learned(second))
                for number, (first, second) in enumerate(pairs)
            },
            norm_pre=before and learned(before),
            norm=behind and learned(behind),
        )


@torch.no_grad()
def _frozen(norm: nn.Module, x: Tensor) -> Tensor:
    """Run a norm that nothing is learned of any more."""
    normed: Tensor = norm(x)
    return normed


def _copies(layers: Sequence[Layer]) -> nn.ModuleList:
    """Return copies of the two layer norms of every block, one after the other."""
    return _copied([norm for layer in layers for norm in (layer.norm_1, layer.norm_2)])


def _copied(norms: Sequence[nn.Module]) -> nn.ModuleList:
    return nn.ModuleList(deepcopy(norm).float().requires_grad_() for norm in norms)
