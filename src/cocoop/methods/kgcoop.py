"""KgCoOp: CoOp whose text features are held near those of hand-written prompts (Yao et al., CVPR 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._parts import DATASET, own_template
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt, context_template, init_context

EPS = 1e-7  # of the cosine, as released


@dataclass(frozen=True)
class Config:
    """Settings of KgCoOp.

    Attributes:
        ctx_init: words whose embeddings the context starts from, or None for random vectors.
        n_ctx: M, the number of random vectors; with `ctx_init` it is the number of its tokens.
        weight: λ of the knowledge term; 8 in the released scripts, where the code's default is 1.
        teacher: the hand-written prompt with `{}` for the class name; "dataset" for the dataset's own.
    """

    ctx_init: str | None = "a photo of a"
    n_ctx: int = 4
    weight: float = 8.0
    teacher: str = DATASET


# The released teacher of DTD differs from CoOp's template; the others are the datasets' own.
BY_DATASET = {"dtd": {"teacher": "a photo of a {}, a type of texture."}}


@METHODS.register("kgcoop")
class Model(nn.Module):
    """Learned context; its text features are drawn to those of a hand-written prompt (section 3.2)."""

    facts = Facts(
        name="KgCoOp",
        summary="is CoOp whose text features are held near those of a sentence written by hand",
        paper=Paper(
            title="Visual-Language Prompt Tuning with Knowledge-guided Context Optimization",
            authors="Yao et al.",
            venue="CVPR 2023",
            date="2023-03",
            link="https://arxiv.org/abs/2303.13283",
            code="https://github.com/htyao89/KgCoOp",
        ),
        extends="coop",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "kgcoop-released": Preset(
            Config(), Recipe(epochs=100, batch_size=128), "the released scripts", BY_DATASET
        ),
        "kgcoop-quick": Preset(
            Config(), Recipe(epochs=20, batch_size=32), "fewer epochs than released, for the demo", BY_DATASET
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        ctx = init_context(backbone, cfg.ctx_init, cfg.n_ctx, seed)
        self.weight = cfg.weight
        self.prompts = (Prompt(context_template(cfg.ctx_init, len(ctx)), len(ctx)),)
        self.texts = {"teacher": (own_template(cfg.teacher, template),)}
        self.ctx = nn.Parameter(ctx)  # (m, w)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 m w"]:
        """Return the context, the same for all images and classes."""
        return self.ctx[None, None]

    def loss(self, out: Output, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross-entropy, and the knowledge term."""
        return {"cross-entropy": F.cross_entropy(out.logits, labels), "knowledge": self.knowledge(out)}

    def knowledge(self, out: Output) -> Float[Tensor, ""]:
        """Return λ (1 - mean cosine of learned and hand-written text features).

        The paper's squared distance of unit vectors (equation 4) is twice this.
        """
        cosine = F.cosine_similarity(out.ztxt[0], out.text["teacher"][0], dim=-1, eps=EPS)
        return self.weight * (1 - cosine.mean())
