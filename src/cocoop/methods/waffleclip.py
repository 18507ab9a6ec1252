"""WaffleCLIP: random words and characters in place of descriptors (Roth et al., ICCV 2023)."""

import math
import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._parts import Draws, whole_words
from cocoop.methods._recipe import Preset
from cocoop.methods._sentences import class_means, phrased, spaced
from cocoop.text.prompt import Prompt
from cocoop.utils.display import brief

CHARACTERS = string.ascii_letters + string.digits + "-'/()"  # in place of those of DCLIP's descriptors


@dataclass(frozen=True)
class Config:
    """Settings of WaffleCLIP.

    Attributes:
        pairs: random descriptors of words, and as many of characters.
        start: what stands before the descriptors, with `{}` for the class name.
    """

    pairs: int = 15
    start: str = "a photo of a {}"

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise UsageError(f"pairs must be at least 1, not {self.pairs}")
        if self.start.count("{}") != 1:
            raise UsageError(f"the start {brief(self.start)} needs {{}} once, for the class name")


@METHODS.register("waffleclip")
class Model(nn.Module):
    """DCLIP's mean of logits, over random descriptors that all classes share."""

    facts = Facts(
        name="WaffleCLIP",
        summary="is DCLIP with random words and characters in place of descriptors",
        paper=Paper(
            title="Waffling around for Performance: Visual Classification with Random Words and Broad "
            "Concepts",
            authors="Roth et al.",
            venue="ICCV 2023",
            date="2023-06",
            link="https://arxiv.org/abs/2306.07282",
            code="https://github.com/ExplainableML/WaffleCLIP",
        ),
        images=False,
        training="none",
        draws=True,
        extends="dclip",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "waffleclip": Preset(
            Config(),
            None,
            "the released defaults; words are of CLIP's own vocabulary, characters are letters, digits and "
            "-'/(); the paper's seven repetitions are seven seeds",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.draws = Draws(seed)
        self.words = tuple(whole_words(backbone).values())
        self.width = backbone.width
        self.prompts = (Prompt(template),)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def descriptors(self, class_names: Sequence[str]) -> list[str]:
        """Return the random descriptors, as many and as long words as the class names have on average.

        Groups of characters are as many as blanks in a name and one more, and have together at least one
        character more than the longest word of a name.
        """
        names = [spaced(name).split(" ") for name in class_names]
        count = max(1, round(fmean(map(len, names))))
        length = round(fmean(fmean(map(len, name)) for name in names))
        groups = round(fmean(len(name) - 1 for name in names)) + 1
        size = math.ceil(fmean(max(map(len, name)) for name in names)) // groups + 1
        draw = random.Random(int(self.draws.seed))
        found = []
        for _ in range(self.cfg.pairs):
            found.append(" ".join(word[:length] for word in draw.choices(self.words, k=count)))
            found.append(", ".join("".join(draw.choices(CHARACTERS, k=size)) for _ in range(groups)))
        return found

    def sentences(self, class_names: Sequence[str]) -> Mapping[str, Sequence[Sequence[str]]]:
        """Return every class's name with the same descriptors."""
        clauses = [phrased(text) for text in self.descriptors(class_names)]
        starts = [self.cfg.start.replace("{}", spaced(name)) for name in class_names]
        return {"own": [[f"{start}, {clause}." for clause in clauses] for start in starts]}

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """The mean of the scaled cosines to a class's sentences."""
        means = class_means(out.sentences["own"], out.ftxt.shape[1])
        return out.logit_scale * out.zimg @ means.T
