"""What a family of image-text models is: the names it takes, what it declares, and its model by parts.

A family is one file in `families/`. Nothing else knows its name: tables and checks read what it declares.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cocoop.errors import UsageError
from cocoop.utils.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from cocoop.backbones.text_model import TextModel
    from cocoop.backbones.tokenizer import Vocabulary
    from cocoop.backbones.vision import VisionTransformer
    from cocoop.data.transforms import Preprocess


@dataclass(frozen=True)
class About:
    """What a family declares about itself.

    Attributes:
        name: what its models are called.
        spelled: how `--backbone` names one.
        text: how prompts are encoded: by the token tree, or padded, and what it depends on.
        extra: of the package that it needs; empty where it needs none.
        languages: what its text is, where the source says so.
        example: the name of one of its models.
        multilingual: the name of one that reads many languages; empty where none does.
        paper: author and year, as it is cited.
    """

    name: str
    spelled: str
    text: str
    extra: str = ""
    languages: str = ""
    example: str = ""
    multilingual: str = ""
    paper: str = ""


@dataclass(frozen=True, eq=False)
class Parts:
    """An image-text model by its parts.

    Attributes:
        model: what holds all weights.
        image: the image tower: pixels (b, 3, h, w) to raw features (b, d).
        text: the text tower.
        vocabulary: its tokenizer.
        preprocess: the pixels that the image tower expects.
        logit_scale: gives the factor of the cosine, of the weights as they are.
        logit_bias: gives what is added to every logit, as SigLIP learned it for its sigmoid; None where
            nothing is.
        languages: what the text tower reads, "English" or "multilingual"; empty where that is not known.
        vision: gives the image tower by its parts, or why nothing can be learned inside it.
    """

    model: "nn.Module"
    image: "nn.Module"
    text: "TextModel"
    vocabulary: "Vocabulary"
    preprocess: "Preprocess"
    logit_scale: Callable[[], float]
    logit_bias: Callable[[], float] | None = None
    languages: str = ""
    vision: "Callable[[], VisionTransformer | str]" = lambda: "its family gives no parts of it"


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A model without values, on torch's meta device: all that its sizes tell.

    Attributes:
        model: the whole of it.
        text: its text tower.
        pixels: height and width of its images.
    """

    model: "nn.Module"
    text: "TextModel"
    pixels: tuple[int, int]


@dataclass(frozen=True)
class Source:
    """A model that a family has found under a name, of which no weights are loaded yet.

    Attributes:
        name: as it was given.
        family: registered name of the family.
    """

    name: str
    family: str

    def load(self) -> Parts:
        """Load it, on the CPU in fp32."""
        return FAMILIES.get(self.family).load(self.name)

    def skeleton(self) -> Skeleton | None:
        """Return it without values; None where only the weights tell, or what is not on this machine."""
        return FAMILIES.get(self.family).skeleton(self.name)

    def cached(self) -> bool | None:
        """Whether its weights are on this machine; None where there are none to fetch."""
        return FAMILIES.get(self.family).cached(self.name)

    @property
    def about(self) -> About:
        """What its family declares."""
        return FAMILIES.get(self.family).about


@runtime_checkable
class Family(Protocol):
    """A family of image-text models."""

    @property
    def about(self) -> About:
        """What it declares."""
        ...

    def takes(self, name: str) -> bool:
        """Whether a name is of this family, found out without fetching weights.

        Raises:
            CocoopError: it is, and cannot be used; the message says why.
        """
        ...

    def load(self, name: str) -> Parts:
        """Load a model on the CPU in fp32, its weights fetched where they are not there yet.

        Raises:
            UsageError: a wrong name.
            CocoopError: the weights cannot be had, or are not what they should be.
        """
        ...

    def skeleton(self, name: str) -> Skeleton | None:
        """Return a model without values; None where only the weights tell, or what is not on this machine."""
        ...

    def cached(self, name: str) -> bool | None:
        """Whether its weights are on this machine; None where it has none to fetch."""
        ...


FAMILIES: Registry[Family] = Registry("family of backbones", "cocoop.backbones.families")


def find(name: str) -> Source:
    """Return the model of a name, before anything is fetched but what describes it.

    Raises:
        UsageError: no family takes it.
        CocoopError: it cannot be used; the message says why.
    """
    wrong: UsageError | None = None  # one family takes whatever no other does, and says what was meant
    for family in FAMILIES.names():
        try:
            if FAMILIES.get(family).takes(name):
                return Source(name, family)
        except UsageError as error:
            wrong = error
    if wrong:
        raise wrong
    spellings = "; ".join(dict.fromkeys(FAMILIES.get(family).about.spelled for family in FAMILIES.names()))
    raise UsageError(f"{name} is no backbone{_but(name)}. Write one of: {spellings}")


def text_sizes(name: str) -> tuple[int, int] | None:
    """Return w, the size of a text token's vector, and d, that of the joint embedding, loading no weights.

    None where only the weights tell, or what is not on this machine.

    Raises:
        UsageError: no family takes the name.
    """
    skeleton = find(name).skeleton()
    return (skeleton.text.width, skeleton.text.embed_dim) if skeleton else None


def _but(name: str) -> str:
    """Return what a name is instead, as a part of a message."""
    from cocoop.backbones.hub import description

    if config := description(name):
        return f": its description says {config.get('model_type', 'nothing')!r}, which no family takes"
    if Path(name).is_dir():
        return (
            ": it is not a model folder (open_clip_config.json of open_clip or config.json of transformers)"
        )
    return ""
