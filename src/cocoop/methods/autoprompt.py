"""AutoPrompt: words of the prompt found by a search that gradients guide (Shin et al., EMNLP 2020)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Bank, Text
from cocoop.methods._parts import Draws, whole_words
from cocoop.methods._recipe import Preset, Recipe
from cocoop.text.prompt import Prompt
from cocoop.utils.display import brief


@dataclass(frozen=True)
class Config:
    """Settings of AutoPrompt.

    Attributes:
        ctx_init: words that the search starts from, as many as it ends with.
        candidates: k, the words tried out in a step.
    """

    ctx_init: str = "a photo of a"
    candidates: int = 10

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise UsageError(f"candidates must be at least 1, not {self.candidates}")


@METHODS.register("autoprompt")
class Model(nn.Module):
    """Words in place of learned vectors: each step tries to replace one of them (section 2.2)."""

    tokens: Tensor
    facts = Facts(
        name="AutoPrompt",
        summary="replaces its words by others, found one by one with the gradient as a guide",
        paper=Paper(
            title="AutoPrompt: Eliciting Knowledge from Language Models with Automatically Generated Prompts",
            authors="Shin et al.",
            venue="EMNLP 2020",
            date="2020-10",
            link="https://arxiv.org/abs/2010.15980",
            code="https://github.com/ucinlp/autoprompt",
        ),
        selects_on="few-shot validation",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "autoprompt": Preset(
            Config(),
            Recipe(epochs=0, steps=100, schedule="step", batch_size=320, augmentation="none", keep="best"),
            "the released defaults: 10 candidates, 100 steps of 10 batches of 32, the best words on "
            "validation images. Candidates are tried on the images of the gradient, not on others, and the "
            "search starts from words, as CLIP has no mask token",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.words = whole_words(backbone)
        self.known = torch.tensor(list(self.words), device=backbone.device)
        start = backbone.tokenize.words(cfg.ctx_init.replace("_", " "))
        if not start or not set(start) <= self.words.keys():
            raise UsageError(
                f"ctx_init must be of words that are one token of CLIP's, not {brief(cfg.ctx_init)}"
            )
        self.k = cfg.candidates
        self.tokenize = backbone.tokenize
        self.table = backbone.token_embedding.detach()  # (v, w), the backbone's own
        self.draws = Draws(seed)
        self.register_buffer("tokens", torch.tensor(start, device=backbone.device))
        self.ctx = nn.Parameter(self.table[self.tokens].clone())  # (m, w), always those of the tokens
        self.prompts = (Prompt(self.template, len(start)),)

    @property
    def template(self) -> str:
        """The prompt in words, with `{}` for the class name."""
        return f"{' '.join(self.words[token] for token in self.tokens.tolist())} {{}}."

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 m w"]:
        """Return the embeddings of the words, the same for all images and classes."""
        return self.ctx[None, None]

    def scores(self, place: int) -> Float[Tensor, " v"]:
        """Return, to first order, how much less the loss were with each whole word at a place (equation 2).

        Up to what they have in common: -E g of the embeddings E and the gradient g at the place.
        """
        assert self.ctx.grad is not None
        return -(self.table.to(self.ctx) @ self.ctx.grad[place])[self.known]

    @torch.no_grad()
    def search(self, loss: Callable[[], float]) -> None:
        """Put the best of the likeliest candidates at a random place, where the loss is less with it."""
        place = int(torch.randint(len(self.tokens), (), generator=self.draws()))
        likeliest = self.scores(place).topk(min(self.k, len(self.known))).indices
        chosen, least = int(self.tokens[place]), loss()
        for token in self.known[likeliest].tolist():
            self._put(place, token)
            if self._reads_back() and (value := loss()) < least:
                chosen, least = token, value
        self._put(place, chosen)

    def finish(self, bank: Bank) -> dict[str, Any]:
        """Return the words found, as a template for zero-shot CLIP."""
        return {"template": self.template}

    def _put(self, place: int, token: int) -> None:
        self.tokens[place] = token
        self.ctx.data[place] = self.table[token]

    def _reads_back(self) -> bool:
        """Whether the words are read as the tokens that they are written from."""
        return self.tokenize.words(self.template.removesuffix(" {}.")) == self.tokens.tolist()
