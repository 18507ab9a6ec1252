"""What a training step needs, told from a text tower's sizes: no weights are loaded for it."""

import torch

from cocoop.backbones.text_model import Placed, TextModel, placed
from cocoop.text.memory import tree_bytes
from cocoop.text.padded import bytes_of_one
from cocoop.text.prompt import Slot
from cocoop.text.tower import TextTower

CONTEXT, NAME, FRAME = 4, 2, 3  # tokens of a usual prompt: learned, of the name, and start, full stop and end


def step_bytes(text: TextModel, classes: int) -> int | None:
    """Return the bytes that the text side of a step of one image needs, with activations kept, in fp32.

    None where the tower cannot compute without values, as those of transformers that look at their masks.

    Prompts are of four learned vectors and names of two tokens that have none in common.

    Args:
        text: a tower, also one without values.
        classes: candidates.
    """
    if text.transformer:
        return tree_bytes([_prompt(label) for label in range(classes)], TextTower(text), grad=True)
    length = text.context_length if text.fixed_length else CONTEXT + NAME + FRAME
    device = text.table.device
    tokens = torch.full((1, length), text.vocabulary // 2, device=device)
    places = torch.arange(1, CONTEXT + 1, device=device)
    vectors = torch.zeros(CONTEXT, text.width, device=device, requires_grad=True)

    def run() -> torch.Tensor:
        with placed(Placed(torch.zeros_like(places), places, {0: vectors})):
            return text.encode(tokens)

    try:
        return classes * bytes_of_one(text, run, grad=True)
    except (RuntimeError, NotImplementedError):  # of the meta device, asked for a value
        return None


def _prompt(label: int) -> tuple[Slot, ...]:
    context = [Slot(ctx=index) for index in range(CONTEXT)]
    return (Slot(token=0), *context, Slot(token=label + 2), *[Slot(token=1)] * (NAME + FRAME - 2))
