"""MTA: the mode of an image's views, by mean shift, in place of its feature (Zanella et al., CVPR 2024)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.data.views import ImageViews
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text, Unlabelled
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt

NEAR = 0.3  # share of the other views that a bandwidth is taken from
ROUNDS = 5  # of scores and modes in turns, and of either at most in each
STILL = 1e-6  # how little has to change for either to be found


@dataclass(frozen=True)
class Config:
    """Settings of MTA.

    Attributes:
        looks: views of a test image: the test view, and random crops.
        affinity: λ_q, weight of the agreement between the probabilities of views.
        spread: λ_y, weight of the entropy of the views' scores.
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or lists by name, as
            for zero-shot CLIP.
    """

    looks: int = 64
    affinity: float = 4.0
    spread: float = 0.2
    templates: tuple[str, ...] = ("a photo of a {}.",)

    def __post_init__(self) -> None:
        ImageViews(self.looks)
        Templates(self.templates)
        if not self.spread > 0:
            raise UsageError(f"spread must be above 0, not {self.spread}")


@METHODS.register("mta")
class Model(nn.Module):
    """Views are scored by how near and how alike they are, and their mode stands for the image."""

    facts = Facts(
        name="MTA",
        summary="puts the mode of the views of each test image in the place of its feature",
        paper=Paper(
            title="On the Test-Time Zero-Shot Generalization of Vision-Language Models: "
            "Do We Really Need Prompt Learning?",
            authors="Zanella et al.",
            venue="CVPR 2024",
            date="2024-05",
            link="https://arxiv.org/abs/2405.02266",
            code="https://github.com/MaxZanella/MTA",
        ),
        images=False,
        training="none",
        draws=True,
        adapts_to="views",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "mta-released": Preset(Config(), None, "the released code"),
        "mta-dataset": Preset(Config(templates=(DATASET,)), None, "under the dataset's own template"),
        "mta-quick": Preset(
            Config(looks=16, templates=(DATASET,)),
            None,
            "fewer views than released, under the dataset's own template, for the demo",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg, self.width = cfg, backbone.width
        self.image_views = ImageViews(cfg.looks)
        self.prompts = tuple(Prompt(text) for text in Templates(cfg.templates).texts(template))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def adapt(self, images: Unlabelled) -> Float[Tensor, "n c"]:
        """Return the scaled cosine of each image's mode."""
        ztxt = F.normalize(images.encode(self(images.zimg[:, 0])), dim=-1)[0]
        likely = (images.logit_scale * images.zimg @ ztxt.T).softmax(-1)
        return images.logit_scale * self.mode(images.zimg, likely @ likely.mT) @ ztxt.T

    def mode(self, zimg: Float[Tensor, "n v d"], alike: Float[Tensor, "n v v"]) -> Float[Tensor, "n d"]:
        """Return the mode of every image's views, of length 1.

        Args:
            zimg: the views, the first of them where the search begins.
            alike: how alike the probabilities of any two views are.
        """
        if zimg.shape[1] == 1:
            return zimg[:, 0]
        bandwidth = _bandwidth(zimg)
        score = zimg.new_full(zimg.shape[:2], 1 / zimg.shape[1])
        mode = zimg[:, 0]
        for _ in range(ROUNDS):
            near = _density(zimg, mode, bandwidth)
            score = _settled(score, partial(self._scores, near, alike))
            mode = _settled(mode, partial(_shifted, zimg, bandwidth, score))
        return mode

    def _scores(
        self, near: Float[Tensor, "n v"], alike: Float[Tensor, "n v v"], score: Float[Tensor, "n v"]
    ) -> Float[Tensor, "n v"]:
        """Return better scores of the views."""
        agreement = torch.einsum("nvu,nu->nv", alike, score)
        return ((near + self.cfg.affinity * agreement) / self.cfg.spread).softmax(-1)


def _bandwidth(zimg: Float[Tensor, "n v d"]) -> Float[Tensor, "n v"]:
    """Return for every view half the mean squared distance to the nearest others: its squared bandwidth."""
    distance = torch.cdist(zimg, zimg, compute_mode="donot_use_mm_for_euclid_dist").square()
    nearest = max(1, int(NEAR * (zimg.shape[1] - 1)))
    mean = distance.sort(dim=-1).values[..., 1 : nearest + 1].mean(-1)
    return (mean / 2).clamp(min=torch.finfo(zimg.dtype).eps)  # equal views have none


def _density(
    zimg: Float[Tensor, "n v d"], mode: Float[Tensor, "n d"], bandwidth: Float[Tensor, "n v"]
) -> Float[Tensor, "n v"]:
    return (-(zimg - mode[:, None]).square().sum(-1) / (2 * bandwidth)).exp()


def _shifted(
    zimg: Float[Tensor, "n v d"],
    bandwidth: Float[Tensor, "n v"],
    score: Float[Tensor, "n v"],
    mode: Float[Tensor, "n d"],
) -> Float[Tensor, "n d"]:
    """Return the mean of the views by score and density, of length 1."""
    weight = _density(zimg, mode, bandwidth) * score
    return F.normalize(torch.einsum("nv,nvd->nd", weight, zimg), dim=-1)


def _settled(value: Float[Tensor, "n k"], better: Callable[[Tensor], Tensor]) -> Float[Tensor, "n k"]:
    """Repeat a step until little changes, for every image by itself."""
    found: Bool[Tensor, "n 1"] = torch.zeros(len(value), 1, dtype=torch.bool, device=value.device)
    for _ in range(ROUNDS):
        new = torch.where(found, value, better(value))
        found = (new - value).norm(dim=-1, keepdim=True) < STILL
        value = new
    return value
