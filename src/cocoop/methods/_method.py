"""What a class in this folder is, and how one is built."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from cocoop.backbones.clip import Backbone
from cocoop.methods import METHODS
from cocoop.methods._facts import Facts
from cocoop.methods._hooks import NO_TEXT, Text
from cocoop.methods._recipe import Preset
from cocoop.text.prompt import Prompt


@runtime_checkable
class Method(Protocol):
    """What a class in this folder is: an `nn.Module` that maps image features to context vectors.

    Class names, data and optimiser are arguments elsewhere and never its state, so that a state dict
    loads strictly for any other class names.

    Attributes:
        facts: what it declares about itself.
        config_type: frozen dataclass of the method's settings.
        presets: named settings, the default first.
        prompts: the prompt, or the prompts of an ensemble, that the vectors are put into.
        transferable: whether it answers among other class names than those it was trained on.
        training: whether it is being trained, as `nn.Module` has it.
    """

    facts: ClassVar[Facts]
    config_type: ClassVar[type]
    presets: ClassVar[Mapping[str, Preset]]
    prompts: tuple[Prompt, ...]
    transferable: bool
    training: bool

    def __init__(self, cfg: Any, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> None:
        """Build the untrained method.

        Args:
            cfg: its settings.
            backbone: the frozen CLIP, asked for sizes and word embeddings.
            template: the dataset's zero-shot template.
            n_classes: classes it will be trained on, for class-specific vectors.
            seed: of everything drawn at random.
        """
        ...

    def __call__(self, zimg: Float[Tensor, "b d"], text: Text = NO_TEXT) -> Float[Tensor, "#b #c m w"]:
        """Return context vectors; 1 in the first place: for all images, in the second: for all classes.

        Args:
            zimg: L2-normalised image features.
            text: frozen text features, where it asks for some; see `cocoop.methods._hooks`.
        """
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what is learned, as `nn.Module` does."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what is learned with its name, as `nn.Module` does."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Say whether it is being trained, as `nn.Module` does."""
        ...

    def eval(self) -> Any:
        """Say that it is not being trained, as `nn.Module` does."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is learned by name, as `nn.Module` does."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> Any:
        """Put learned values back, as `nn.Module` does."""
        ...


def build(name: str, config: Any, backbone: Backbone, *, template: str, n_classes: int, seed: int) -> Method:
    """Build an untrained method on the backbone's device; the arguments are those of `Method`.

    Raises:
        UsageError: there is no such method, or the backbone cannot take its settings.
    """
    kind = METHODS.get(name)
    method: nn.Module = kind(config, backbone, template=template, n_classes=n_classes, seed=seed)
    return cast(Method, method.to(backbone.device))
