"""A trained prompt as one safetensors file: the learned vectors and what they were learned with."""

import json
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from cocoop.backbone import Backbone
from cocoop.errors import CocoopError
from cocoop.files import write_bytes
from cocoop.methods import METHODS, Method
from cocoop.settings import from_dict

SCHEMA = 1


class PromptCard(BaseModel):
    """What a prompt file says about itself, kept in the header of the file.

    Attributes:
        template: the zero-shot template of the dataset it was trained on.
        class_names: the classes it was trained on, in label order.
        lr: learning rate of every epoch.
        loss: training loss of every step.
        seconds: wall time of the training steps.
        notes: whatever else the caller wants kept.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA
    method: str
    config: dict[str, Any]
    backbone: str
    weights: str
    template: str
    class_names: list[str]
    seed: int
    lr: list[float] = []
    loss: list[float] = []
    seconds: float = 0.0
    notes: dict[str, Any] = {}


def build_method(card: PromptCard, backbone: Backbone) -> Method:
    """Build the untrained method that a card describes."""
    cls = METHODS.get(card.method)
    config = from_dict(cls.config_type, card.config)
    method: nn.Module = cls(
        config, backbone, template=card.template, n_classes=len(card.class_names), seed=card.seed
    )
    return cast(Method, method.to(backbone.device))


def save_prompt(path: Path, method: Method, card: PromptCard) -> None:
    """Write the learned tensors and the card to `path`, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in method.state_dict().items()}
    write_bytes(path, save(tensors, {"cocoop": card.model_dump_json()}))


def load_prompt(path: str | Path, backbone: Backbone) -> tuple[Method, PromptCard]:
    """Read a prompt file back into a method on `backbone`.

    Raises:
        CocoopError: the file is damaged, of another version, or made with other weights.
    """
    try:
        with safe_open(path, "pt") as file:
            card = PromptCard.model_validate_json((file.metadata() or {})["cocoop"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValidationError, json.JSONDecodeError) as error:
        raise CocoopError(
            f"{path} is not a readable prompt file; delete it and train again ({error})"
        ) from error
    if card.schema_version != SCHEMA:
        raise CocoopError(
            f"{path} has format {card.schema_version}, this version reads {SCHEMA}; train again"
        )
    if card.weights != backbone.weights_digest:
        raise CocoopError(
            f"{path} was trained with other weights of {card.backbone} than those of {backbone.name}; "
            f"load the backbone it was trained with"
        )
    method = build_method(card, backbone)
    try:
        method.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CocoopError(f"{path} does not fit {card.method} on {backbone.name}: {error}") from error
    return method, card
