"""ProGrad: CoOp that takes no step against what zero-shot CLIP knows (Zhu et al., ICCV 2023)."""

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
from cocoop.methods._parts import DATASET, own_template
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import PLACEHOLDER, Prompt


@dataclass(frozen=True)
class Config:
    """Settings of ProGrad.

    Attributes:
        n_ctx: M, the number of context vectors.
        template: the hand-written prompt that is the teacher, and whose words fill the last vectors at the
            start; the first ones are zero. "dataset" for the dataset's own.
        strength: λ, how much of the gradient against the teacher is taken away.
        temperature: T of the distillation.
    """

    n_ctx: int = 16
    template: str = DATASET
    strength: float = 1.0
    temperature: float = 1.0


# The released sentences that differ from CoOp's templates.
BY_DATASET = {
    "oxford_pets": {"template": "a type of pet, a photo of a {}."},
    "oxford_flowers": {"template": "a type of flower, a photo of a {}."},
    "fgvc_aircraft": {"template": "a type of aircraft, a photo of a {}."},
    "food101": {"template": "a type of food, a photo of {}."},
    "dtd": {"template": "a texture of {}."},
}


@METHODS.register("prograd")
class Model(nn.Module):
    """Learned context; a gradient against the teacher's direction loses that part (equation 5)."""

    facts = Facts(
        name="ProGrad",
        summary="is CoOp that takes no step against the direction of zero-shot CLIP",
        paper=Paper(
            title="Prompt-aligned Gradient for Prompt Tuning",
            authors="Zhu et al.",
            venue="ICCV 2023",
            date="2022-05",
            link="https://arxiv.org/abs/2205.14865",
            code="https://github.com/BeierZhu/Prompt-align",
        ),
        extends="coop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "prograd-released": Preset(
            Config(), Recipe(epochs=100, batch_size=32), "the paper's base-to-new runs", BY_DATASET
        ),
        "prograd-quick": Preset(
            Config(), Recipe(epochs=20, batch_size=32), "fewer epochs than released, for the demo", BY_DATASET
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        text = own_template(cfg.template, template)
        words = text.partition("{}")[0].split()
        if not cfg.n_ctx >= 1 or len(words) > cfg.n_ctx:
            raise UsageError(
                f"n_ctx must be at least {max(1, len(words))}, the words of {text!r}, not {cfg.n_ctx}"
            )
        start = torch.zeros(cfg.n_ctx, backbone.width, device=backbone.device)
        if words:  # as many vectors as words, of as many tokens: a comma is a token that is no word
            start[-len(words) :] = backbone.embed_words(" ".join(words))[: len(words)]
        placeholders = [PLACEHOLDER] * (cfg.n_ctx - len(words))
        self.strength, self.temperature = cfg.strength, cfg.temperature
        self.prompts = (Prompt(f"{' '.join([*placeholders, *words])} {{}}.", cfg.n_ctx),)
        self.texts = {"teacher": (text,)}
        self.ctx = nn.Parameter(start)  # (m, w)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 m w"]:
        """Return the context, the same for all images and classes."""
        return self.ctx[None, None]

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross-entropy, and the teacher's: -T² mean Σ softmax(z⁰/T) log softmax(z/T).

        The second has the gradient of the paper's Kullback-Leibler divergence (equation 3), without the
        teacher's entropy, as released.
        """
        teacher = out.logit_scale * out.zimg @ F.normalize(out.text["teacher"][0], dim=-1).T
        target = (teacher / self.temperature).softmax(1)
        ours = (out.logits / self.temperature).log_softmax(1)
        return {
            "cross-entropy": F.cross_entropy(out.logits, labels),
            "distillation": -(self.temperature**2) * (target * ours).sum(1).mean(),
        }

    def combine(self, gradients: Sequence[Tensor]) -> Tensor:
        """Take from the first gradient its part against the second, where there is one (equation 5)."""
        ours, teacher = gradients
        direction = F.normalize(teacher.flatten(), dim=0).view_as(teacher)
        along = (ours * direction).sum()
        return ours - self.strength * along.clamp(max=0) * direction
