"""LP++: a linear probe plus the zero-shot logits, each times a learned factor (Huang et al., CVPR 2024)."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

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
from cocoop.utils.seeding import seeded

MOMENTUM = 0.9


@dataclass(frozen=True)
class Config:
    """Settings of LP++.

    Attributes:
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
        descents: steps down the gradient of all images.
        alpha_start: times the mean similarity of image and class: where every α starts.
        alpha_every: steps between two changes of α.
        selects_on: the validation images that the best step is selected on.
    """

    templates: tuple[str, ...] = (DATASET,)
    descents: int = 300
    alpha_start: float = 250.0
    alpha_every: int = 10
    selects_on: Selection = "few-shot validation"

    def __post_init__(self) -> None:
        if self.descents < 0:
            raise UsageError(f"descents must be at least 0, not {self.descents}")
        if self.alpha_every < 1:
            raise UsageError(f"alpha_every must be at least 1, not {self.alpha_every}")


@METHODS.register("lp-plus-plus")
class Model(nn.Module):
    """Logits w_c·f + b_c + α_c f·t_c of unit vectors, without a logit scale (section 3)."""

    facts = Facts(
        name="LP++",
        summary="is a linear probe plus the similarities to the texts, each times a learned factor",
        paper=Paper(
            title="LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP",
            authors="Huang et al.",
            venue="CVPR 2024",
            date="2024-04",
            link="https://arxiv.org/abs/2404.02285",
            code="https://github.com/FereshteShakeri/FewShot-CLIP-Strong-Baseline",
        ),
        training="closed form",
        selects_on="few-shot validation",
        extends="linear-probe",
        bound=True,
        quick="lp-plus-plus-released",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "lp-plus-plus-released": Preset(
            Config(),
            Recipe(epochs=0, crop=0.5),
            "the released configuration, which has as many validation shots as training shots, up to 16",
            {"imagenet": {"templates": ("select7",)}},
        )
    }
    transferable = False

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.selects_on = cfg.selects_on
        self.prompts = (Prompt(template),)
        self.texts = {"class": Templates(cfg.templates).texts(template)}
        self.width = backbone.width
        self.selected: dict[str, Any] = {}
        with seeded(seed):  # the bias starts as any linear layer's
            self.linear = nn.Linear(backbone.embed_dim, n_classes)
        self.alpha = nn.Parameter(torch.zeros(n_classes))  # see `fit`

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Return the probe's logits and α times the similarity to the text features."""
        similarity = out.zimg @ _unit_mean(out.text["class"]).T
        probe = F.linear(out.zimg, self.linear.weight[out.rows], self.linear.bias[out.rows])
        return probe + self.alpha[out.rows] * similarity

    def fit(self, bank: Bank) -> None:
        """Descend at rates that follow from the data; keep the best step on validation images.

        Of equals that is the last. The gradient of α adds up over all steps, as released, where the paper
        takes single ones.
        """
        zimg, zval = (F.normalize(fimg, dim=-1) for fimg in (bank.fimg.flatten(0, 1), bank.fval))
        text, labels = _unit_mean(bank.text["class"]), bank.labels.repeat(len(bank.fimg))
        similarity, of_val = zimg @ text.T, zval @ text.T
        self._start(zimg, labels, similarity)
        rate = 4 * len(zimg) / torch.linalg.eigvalsh(zimg.T @ zimg)[-1].item()
        alpha_rate = len(zimg) / (4 * similarity.pow(2).sum(0).max().item())
        probe = torch.optim.SGD(self.linear.parameters(), rate, MOMENTUM)
        factors = torch.optim.SGD([self.alpha], alpha_rate)
        most, best, kept = -1, 0, self.state_dict()
        for step in range(1, self.cfg.descents + 1):
            probe.zero_grad()  # but not α's
            F.cross_entropy(self.linear(zimg) + self.alpha * similarity, labels).backward()
            probe.step()
            if step % self.cfg.alpha_every == 0:
                factors.step()
            with torch.no_grad():
                right = (self.linear(zval) + self.alpha * of_val).argmax(1) == bank.val_labels
            if right.sum() >= most:
                most, best, kept = int(right.sum()), step, copy.deepcopy(self.state_dict())
        self.load_state_dict(kept)
        self.zero_grad()
        self.selected = {"step": best}

    @torch.no_grad()
    def _start(
        self, zimg: Float[Tensor, "n d"], labels: Int[Tensor, " n"], similarity: Float[Tensor, "n c"]
    ) -> None:
        """Set w_c to the sum of the features of its images, α to a multiple of the mean similarity."""
        own = F.one_hot(labels, similarity.shape[1]).to(zimg)
        self.linear.weight.copy_(own.T @ zimg)
        means = (own * similarity).sum(0) / own.sum(0).clamp(min=1)
        self.alpha.fill_((self.cfg.alpha_start * means.mean()).item())

    def finish(self, bank: Bank) -> dict[str, Any]:
        """Return the step that was selected."""
        return self.selected


def _unit_mean(text: Float[Tensor, "t c d"]) -> Float[Tensor, "c d"]:
    """Return the normalised mean of normalised features."""
    return F.normalize(F.normalize(text, dim=-1).mean(0), dim=-1)
