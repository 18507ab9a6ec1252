"""RPO: pairs of prompts that read both towers and that nothing in these sees (ICCV 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.backbones.vision import Cut, VisionTower
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._parts import own_template
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt
from cocoop.utils.seeding import checked

NOISE = 0.1  # length of the random vectors that the prompts start apart by


@dataclass(frozen=True)
class Config:
    """Settings of RPO.

    Attributes:
        n_prompts: K, the number of prompts in each tower.
        sentence: what the text prompts read, with `{}` for the class name, whose underscores stay; "dataset"
            for the dataset's own template.
    """

    n_prompts: int = 24
    sentence: str = "a photo of a {}."

    def __post_init__(self) -> None:
        if self.n_prompts < 1:
            raise UsageError(f"n_prompts must be at least 1, not {self.n_prompts}")


@METHODS.register("rpo")
class Model(nn.Module):
    """Read-only prompts: all states of CLIP stay what they are."""

    facts = Facts(
        name="RPO",
        summary="learns prompts that read both towers, each for itself, and change no state in them",
        paper=Paper(
            title="Read-only Prompt Optimization for Vision-Language Few-shot Learning",
            authors="Lee et al.",
            venue="ICCV 2023",
            date="2023-08",
            link="https://arxiv.org/abs/2308.14960",
            code="https://github.com/mlvlab/RPO",
        ),
        cut="pixels",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "rpo-released": Preset(
            Config(), Recipe(epochs=15, batch_size=4, lr=0.01), "the released configuration for base-to-new"
        ),
        "rpo-imagenet": Preset(
            Config(),
            Recipe(epochs=15, batch_size=4, lr=0.005),
            "the released configuration for domain generalization",
        ),
        "rpo-quick": Preset(
            Config(), Recipe(epochs=3, batch_size=4, lr=0.01), "fewer epochs than released, for the demo"
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        vision, end = backbone.vision, backbone.tokenize.suffix[-1:]
        generator = torch.Generator().manual_seed(checked(seed))
        self.cut: Cut = "pixels"
        self.prompts = (Prompt(own_template(cfg.sentence, template), 1, underscores=True, read_only=True),)
        self.text_prompts = nn.Parameter(_near(backbone.embed([*end])[0], cfg.n_prompts, generator))  # (k, w)
        self.image_prompts = nn.Parameter(_near(vision.class_token, cfg.n_prompts, generator))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "k 1 1 w"]:
        """Return every text prompt as a sample: none sees another, nor itself."""
        return self.text_prompts[:, None, None]

    def image(self, state: Float[Tensor, "b *n w"], tower: VisionTower) -> Float[Tensor, "b kd"]:
        """Return the mean direction of the K image prompts' features, and behind it all of these."""
        count = len(self.image_prompts)
        seen = torch.ones(2 * (tower.tokens + count,), dtype=torch.bool, device=state.device)
        seen[:, tower.tokens :] = False
        prompts = {0: self.image_prompts[None]}
        read = tower.project(tower.run(state, self.cut, prompts, mask=seen, ends=slice(-count, None)))
        mean = F.normalize(read, dim=-1).mean(1, keepdim=True)
        return torch.cat([mean, read], dim=1).flatten(1)

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """Scaled cosine of the image prompt and the text prompt of a pair, the mean over all."""
        each = torch.einsum("bkd,kcd->bkc", F.normalize(out.others, dim=-1), out.ztxt)
        return out.logit_scale * each.mean(1)


def _near(vector: Float[Tensor, " w"], count: int, generator: torch.Generator) -> Float[Tensor, "k w"]:
    """Return vectors a little away from one, in random directions."""
    noise = torch.randn(count, len(vector), generator=generator)
    return vector.detach().float().cpu() + NOISE * F.normalize(noise, dim=-1)
