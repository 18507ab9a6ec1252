"""DCLIP: an image is compared with sentences about each class (Menon and Vondrick, ICLR 2023)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._recipe import Preset
from cocoop.methods._sentences import EMBEDDED, class_means, phrased, pinned_source, read_sentences, spaced
from cocoop.text.prompt import Prompt


@dataclass(frozen=True)
class Config:
    """Settings of DCLIP.

    Attributes:
        sentences: JSON file with a list of sentences of every class, or "embedded" for those about the
            embedded datasets.
        descriptors: whether the file has descriptors in place of sentences, "a red comb", which are joined
            to the name as released: "hen, which is a red comb".
    """

    sentences: str = EMBEDDED
    descriptors: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentences", pinned_source(self.sentences))


@METHODS.register("dclip")
class Model(nn.Module):
    """The mean of the logits of a class's sentences (equation 1); nothing is learned."""

    facts = Facts(
        name="DCLIP",
        summary="compares an image with sentences about each class, and averages",
        paper=Paper(
            title="Visual Classification via Description from Large Language Models",
            authors="Menon and Vondrick",
            venue="ICLR 2023",
            date="2022-10",
            link="https://arxiv.org/abs/2210.07183",
            code="https://github.com/sachit-menon/classify_by_description_release",
        ),
        images=False,
        sentences=True,
        training="none",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "dclip": Preset(Config(), None, "the paper's equation 1, over whole sentences"),
        "dclip-released": Preset(
            Config(descriptors=True), None, "the released wording, for files of descriptors such as its own"
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.width = backbone.width
        self.prompts = (Prompt(template),)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def sentences(self, class_names: Sequence[str]) -> Mapping[str, Sequence[Sequence[str]]]:
        """Return those of the file. Raises UsageError where it has none about a class."""
        given = read_sentences(self.cfg.sentences, class_names, "dclip")
        if self.cfg.descriptors:
            given = [
                [f"{spaced(name)}, {phrased(text)}" for text in texts]
                for name, texts in zip(class_names, given, strict=True)
            ]
        return {"own": given}

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """The mean of the scaled cosines to a class's sentences."""
        means = class_means(out.sentences["own"], out.ftxt.shape[1])
        return out.logit_scale * out.zimg @ means.T
