"""Zero-shot CLIP: nothing is learned, the prompt is a hand-written template (Radford et al., ICML 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.errors import UsageError
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts, Paper
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._parts import DATASET, own_template
from cocoop.methods._recipe import Preset
from cocoop.text.prompt import Prompt

# the lists published with CLIP, by their names in `open_clip.zero_shot_metadata`, and how many are taken
LISTS = {
    "select7": ("SIMPLE_IMAGENET_TEMPLATES", 7),
    "imagenet60": ("OPENAI_IMAGENET_TEMPLATES", 60),
    "imagenet80": ("OPENAI_IMAGENET_TEMPLATES", 80),
}


@dataclass(frozen=True)
class Config:
    """Settings of zero-shot CLIP.

    Attributes:
        templates: prompts with `{}` for the class name, "dataset" for the dataset's own, or names of lists:
            "select7", "imagenet80" and of this the first 60, "imagenet60". Several are an ensemble: the
            features of each are normalised, averaged, and normalised again.
    """

    templates: tuple[str, ...] = (DATASET,)

    def __post_init__(self) -> None:
        if not self.templates:
            raise UsageError(f"give at least one template, or {DATASET!r} for the dataset's own")
        for text in self.templates:
            named = text in (DATASET, *LISTS)
            if not named and ("{}" not in text or set("{}") & set(text.replace("{}", "", 1))):
                known = ", ".join(map(repr, (DATASET, *LISTS)))
                raise UsageError(f"the template {text!r} needs {{}} once, for the class name; lists: {known}")

    def texts(self, own: str) -> tuple[str, ...]:
        """Return the prompts in full, each once; `own` is the dataset's."""
        lists = (_listed(text) if text in LISTS else (own_template(text, own),) for text in self.templates)
        return tuple(dict.fromkeys(text for texts in lists for text in texts))


def _listed(name: str) -> tuple[str, ...]:
    from open_clip import zero_shot_metadata

    published, count = LISTS[name]
    return tuple(template("{}") for template in getattr(zero_shot_metadata, published)[:count])


@METHODS.register("zeroshot")
class Model(nn.Module):
    """Hand-written templates; nothing is learned."""

    facts = Facts(
        name="zero-shot CLIP",
        summary="uses a sentence written by hand, and learns nothing",
        paper=Paper(
            title="Learning Transferable Visual Models From Natural Language Supervision",
            authors="Radford et al.",
            venue="ICML 2021",
            date="2021-02",
            link="https://arxiv.org/abs/2103.00020",
            code="https://github.com/openai/CLIP",
        ),
        images=False,
        training="none",
        baseline=True,
        quick="zeroshot",
    )
    config_type: ClassVar[type] = Config
    presets: ClassVar[Mapping[str, Preset]] = {
        "zeroshot": Preset(Config(), None, "CLIP (Radford et al., 2021), the dataset's own template"),
        "zeroshot-select7": Preset(
            Config(("select7", DATASET)),
            None,
            "seven templates and the dataset's own, on ImageNet the seven alone, as in CoOp's code",
            by_dataset={"imagenet": {"templates": ("select7",)}},
        ),
        "zeroshot-imagenet80": Preset(Config(("imagenet80",)), None, "CLIP's 80 templates for ImageNet"),
    }
    transferable = True

    def __init__(self, cfg: Config, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        super().__init__()
        self.width = backbone.width
        self.prompts = tuple(Prompt(text) for text in cfg.texts(template))

    def forward(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "1 1 0 w"]:
        """Return no context vectors."""
        return zimg.new_empty(1, 1, 0, self.width)
