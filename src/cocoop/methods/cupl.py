"""CuPL: a class is the mean of sentences that a language model wrote about it (Pratt et al., ICCV 2023)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocoop.backbones.clip import Backbone
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Output, Text
from cocoop.methods._parts import DATASET
from cocoop.methods._recipe import Preset
from cocoop.methods._sentences import EMBEDDED, class_means, pinned_source, read_sentences, spaced
from cocoop.methods.zeroshot import Config as Templates
from cocoop.text.prompt import Prompt


@dataclass(frozen=True)
class Config:
    """Settings of CuPL.

    Attributes:
        sentences: JSON file with a list of sentences of every class, or "embedded" for those about the
            embedded datasets.
        templates: prompts with `{}` for the class name that stand among the sentences, "dataset" for the
            dataset's own, or lists by name, as for zero-shot CLIP; each counts as one sentence.
    """

    sentences: str = EMBEDDED
    templates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentences", pinned_source(self.sentences))
        if self.templates:
            Templates(self.templates)  # refuses what is none


@METHODS.register("cupl")
class Model(nn.Module):
    """The normalised mean of the normalised features of a class's sentences; nothing is learned."""

    facts = Facts(
        name="CuPL",
        summary="averages the text features of sentences about each class, and learns nothing",
        paper=Paper(
            title="What does a platypus look like? Generating customized prompts for zero-shot image "
            "classification",
            authors="Pratt et al.",
            venue="ICCV 2023",
            date="2022-09",
            link="https://arxiv.org/abs/2209.03320",
            code="https://github.com/sarahpratt/CuPL",
        ),
        images=False,
        sentences=True,
        training="none",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "cupl-released": Preset(Config(), None, "the released code, sentences alone"),
        "cupl-template": Preset(
            Config(templates=(DATASET,)), None, "the dataset's own template among the sentences"
        ),
        "cupl-imagenet80": Preset(
            Config(templates=("imagenet80",)),
            None,
            "the released code, CLIP's 80 templates among the sentences",
        ),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.source = cfg.sentences
        self.templates = Templates(cfg.templates).texts(template) if cfg.templates else ()
        self.width = backbone.width
        self.prompts = (Prompt(template),)

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)

    def sentences(self, class_names: Sequence[str]) -> Mapping[str, Sequence[Sequence[str]]]:
        """Return the filled templates and those of the file.

        Raises:
            UsageError: the file has none about a class.
        """
        given = read_sentences(self.source, class_names, "cupl")
        filled = [[text.replace("{}", spaced(name)) for text in self.templates] for name in class_names]
        return {"own": [ours + theirs for ours, theirs in zip(filled, given, strict=True)]}

    def logits(self, out: Output) -> Float[Tensor, "b c"]:
        """The scaled cosine to the mean of a class's sentences."""
        means = class_means(out.sentences["own"], out.ftxt.shape[1])
        return out.logit_scale * out.zimg @ F.normalize(means, dim=-1).T
