"""TransCLIP with a few labelled images beside all test images (Zanella et al., NeurIPS 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Selection
from cocoop.methods._hooks import NO_TEXT, Bank, Text, Unlabelled
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset, Recipe
from cocoop.methods.transclip import PAPER, Shots, State, log_prior, neighbourhood, solved, started
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt


@dataclass(frozen=True)
class Config:
    """Settings of TransCLIP with shots.

    Attributes:
        power: λ, of CLIP's probabilities in an assignment.
        weights: values of γ, the weight of the shots, to select from.
        weight: the value where there are no images to select on.
        follows: "code" keeps two slips of the released code: in the neighbourhood shots and test images
            change places, and the search with a value of γ begins where that with the one before it ended.
            "paper" has neither.
        selects_on: kind of the validation images.
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
    """

    power: float = 0.5
    weights: tuple[float, ...] = (0.002, 0.01, 0.02, 0.2)
    weight: float = 0.02
    follows: Literal["code", "paper"] = "code"
    selects_on: Selection = "few-shot validation"
    templates: tuple[str, ...] = (DATASET,)

    def __post_init__(self) -> None:
        Templates(self.templates)
        if not self.weights:
            raise UsageError("give at least one of weights")
        if min(self.power, self.weight, *self.weights) < 0:
            raise UsageError("power, weight and weights must be at least 0")


RECIPE = Recipe(epochs=0, views=1, augmentation="none")


@METHODS.register("transclip-few-shot")
class Model(nn.Module):
    """TransCLIP whose classes begin with labelled images, which keep a part in their Gaussians."""

    facts = Facts(
        name="TransCLIP with shots",
        summary="is TransCLIP whose Gaussians are of labelled images too",
        paper=PAPER,
        training="closed form",
        selects_on="few-shot validation",
        extends="transclip",
        adapts_to="whole set",
        bound=True,
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "transclip-few-shot-released": Preset(Config(), RECIPE, "the released code with shots"),
        "transclip-few-shot-paper": Preset(
            Config(follows="paper"), RECIPE, "the paper's formula, with the values of the released code"
        ),
    }
    transferable = False
    shots: Tensor
    labels: Tensor
    held: Tensor
    held_labels: Tensor

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg, self.width, self.selects_on = cfg, backbone.width, cfg.selects_on
        self.prompts = tuple(Prompt(text) for text in Templates(cfg.templates).texts(template))
        for name in ("shots", "held"):
            self.register_buffer(name, torch.empty(0, backbone.embed_dim))
        for name in ("labels", "held_labels"):
            self.register_buffer(name, torch.empty(0, dtype=torch.long))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def fit(self, bank: Bank) -> None:
        """Keep the shots, and the validation images: what they select depends on the test images."""
        self.shots, self.held = (F.normalize(each, dim=-1) for each in (bank.fimg.flatten(0, 1), bank.fval))
        self.labels, self.held_labels = bank.labels.repeat(len(bank.fimg)), bank.val_labels

    def assign(self, images: Unlabelled) -> tuple[Float[Tensor, "n c"], dict[str, Any]]:
        """Return the log probabilities of the assignments, and the γ by which validation images are right.

        A validation image is answered as the test image nearest to it is.
        """
        assert images.rows is not None
        zimg, released = images.zimg[:, 0], self.cfg.follows == "code"
        prior = log_prior(images, self(zimg))
        known = self._among(self.labels, images.rows)
        shots = Shots(self.shots[known.any(1)], known[known.any(1)].to(zimg), misplaced=released)
        near, begin = neighbourhood(zimg, shots.zimg), started(zimg, prior, shots)
        truth = self._among(self.held_labels, images.rows)
        held = self.held[truth.any(1)]
        twins, right = (held @ zimg.T).argmax(1), truth[truth.any(1)].int().argmax(1)
        weights = self.cfg.weights if len(held) else (self.cfg.weight,)
        best: tuple[int, float, State] | None = None
        state = begin
        for weight in weights:
            state = solved(
                state if released else begin,
                zimg,
                prior,
                near,
                replace(shots, weight=weight),
                self.cfg.power,
            )
            score = int((state.assigned[twins].argmax(1) == right).sum())
            if best is None or score > best[0]:
                best = (score, weight, state)
        assert best is not None
        return best[2].assigned, {"weight": best[1]}

    @staticmethod
    def _among(labels: Int[Tensor, " s"], rows: Int[Tensor, " c"]) -> Bool[Tensor, "s c"]:
        """Return which candidate each label is; none where its class is no candidate."""
        return labels[:, None] == rows
