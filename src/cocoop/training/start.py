"""Values of a trained prompt that another training starts from."""

from collections.abc import Mapping

from torch import Tensor

from cocoop.errors import UsageError
from cocoop.methods import Method
from cocoop.methods._parts import path_of
from cocoop.training.prompt_file import PromptCard, read_prompt


def start_from(pin: str, method: Method, card: PromptCard) -> None:
    """Give a method the values of a trained prompt that have the same name and shape.

    Args:
        pin: path of the prompt file, as `Recipe.starts_from` keeps it.
        method: untrained.
        card: what it is trained as.

    Raises:
        UsageError: the prompt was trained with other weights, has values of each of its classes and these
            are not the classes of the training, or has no value that fits.
    """
    path = path_of(pin)
    given, tensors = read_prompt(path)
    if given.weights != card.weights:
        raise UsageError(
            f"starts_from: {path} was trained with {given.backbone}, whose weights are not those of "
            f"{card.backbone}; train it with this backbone"
        )
    own = method.state_dict()
    fitting = {name: value for name, value in tensors.items() if _fits(own.get(name), value)}
    if not fitting:
        raise UsageError(
            f"starts_from: {path}, a prompt of {given.method}, has nothing that {card.method} learns: it has "
            f"{_listed(tensors)}, and {card.method} {_listed(own)}"
        )
    if given.class_names != card.class_names and not method.transferable:
        raise UsageError(
            f"starts_from: {path} was trained on other class names, and {card.method} learns values of each"
        )
    method.load_state_dict({**own, **fitting}, strict=True)


def _listed(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in tensors.items())


def _fits(own: Tensor | None, value: Tensor) -> bool:
    return own is not None and own.shape == value.shape
