"""Models as transformers saves them: a folder, or OWNER/NAME on the Hub, written hf:OWNER/NAME.

Families of such models differ in what they take for an image, a text and a scale; the rest is here. Weights
are read by this package, so that no file is opened that could run a program.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoop.backbones.family import About, Parts, Skeleton
from cocoop.backbones.hub import CONFIG, EXTRA, description, fetched, tokenizer_of, weights_cached
from cocoop.backbones.pixels import described_pixels, preprocess
from cocoop.errors import CocoopError
from cocoop.utils.display import reason

if TYPE_CHECKING:
    from torch import nn

    from cocoop.backbones.text_model import TextModel
    from cocoop.backbones.vision import VisionTransformer

OLD = ("position_ids",)  # of weights that earlier versions of transformers saved and nobody reads
SPELLED = "hf:OWNER/NAME or a folder that transformers wrote"


@dataclass(frozen=True)
class Pretrained:
    """A family of transformers' models.

    Attributes:
        about: what it declares.
        types: the `model_type` of its configurations.
        model: the name of its class in transformers.
        image: gives the image tower of a model, as a module.
        text: gives the text tower of a model.
        scale: gives the factor of the cosine of a model.
        pixels: gives what its image processing is where its files say nothing, of a model's configuration.
        bias: gives what is added to every logit; None where nothing is.
        clean: what is done to a text before it is tokenised.
        vision: gives the image tower by its parts; None where nothing can be learned inside it.
    """

    about: About
    types: tuple[str, ...]
    model: str
    image: "Callable[[Any], nn.Module]"
    text: "Callable[[Any], TextModel]"
    scale: Callable[[Any], float]
    pixels: Callable[[Any], Mapping[str, Any]]
    bias: Callable[[Any], float] | None = None
    clean: Callable[[str], str] = str
    vision: "Callable[[Any], VisionTransformer] | None" = None

    def takes(self, name: str) -> bool:
        """Whether the configuration of a name is of one of the types; it alone is fetched."""
        if (config := description(name)) is None or config.get("model_type") not in self.types:
            return False
        _class(name, self.model)
        return True

    def load(self, name: str) -> Parts:
        """Load a model that transformers saved."""
        from cocoop.backbones.tokenizer import HubVocabulary

        folder = fetched(name)
        model = _load(name, folder, _class(name, self.model))
        vocabulary = HubVocabulary(tokenizer_of(str(folder)), self.clean)
        bias = self.bias
        return Parts(
            model=model,
            image=self.image(model),
            text=self.text(model),
            vocabulary=vocabulary,
            preprocess=preprocess({**self.pixels(model.config), **described_pixels(folder)}),
            logit_scale=lambda: self.scale(model),
            logit_bias=(lambda: bias(model)) if bias else None,
            languages=self.about.languages,
            vision=partial(self._vision, model),
        )

    def _vision(self, model: Any) -> "VisionTransformer | str":
        return self.vision(model) if self.vision else f"that of {self.about.name} is not CLIP's"

    def skeleton(self, name: str) -> Skeleton | None:
        """Build a model of transformers without values."""
        import torch
        import transformers

        if (config := description(name)) is None:
            return None
        settings = transformers.AutoConfig.for_model(**config)
        with torch.device("meta"):
            model = _class(name, self.model)(settings)
        return Skeleton(model, self.text(model), preprocess(self.pixels(settings)).edges)

    def cached(self, name: str) -> bool | None:
        """Whether the weights are on this machine."""
        return weights_cached(name)


def _class(name: str, kind: str) -> Any:
    """Return a class of transformers. Raises CocoopError, with the extra to install."""
    try:
        import transformers
    except ImportError:
        raise CocoopError(f"{name} is a model of transformers: pip install 'cocoop[{EXTRA}]'") from None
    return getattr(transformers, kind)


def _load(name: str, folder: Path, kind: Any) -> Any:
    import torch
    import transformers

    from cocoop.backbones.names import quiet
    from cocoop.backbones.state import difference, read_state, weights_file, without_prefix

    try:
        path = weights_file(folder)
        with quiet(), torch.device("meta"):
            config = transformers.AutoConfig.from_pretrained(folder)
            own = kind(config).state_dict()
        state, _ = without_prefix(read_state(path), own)
    except Exception as error:  # whatever a damaged or hostile file provokes
        raise CocoopError(f"{name} is not a model that transformers saved: {reason(error)}") from error
    with quiet(), _no_bars():
        model, found = kind.from_pretrained(
            None,
            config=config,
            state_dict=state,
            output_loading_info=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
        )
    unexpected = [name for name in found["unexpected_keys"] if not name.endswith(OLD)]
    if found["missing_keys"] or unexpected or found["mismatched_keys"]:
        given = {key: value for key, value in own.items() if key not in found["missing_keys"]}
        given |= {key: torch.empty(shape, device="meta") for key, shape, _ in found["mismatched_keys"]}
        given |= {key: torch.empty(0, device="meta") for key in unexpected}
        raise CocoopError(f"{path} does not hold the weights of its {CONFIG}: {difference(own, given)}")
    return model


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers' progress bars from the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
