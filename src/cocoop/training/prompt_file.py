"""A trained prompt as one safetensors file: the learned vectors and what they were learned with."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cocoop.backbones.clip import Backbone
from cocoop.errors import CocoopError
from cocoop.methods import METHODS, Method, build
from cocoop.methods._parts import load_learned
from cocoop.methods._settings import from_dict
from cocoop.training.log import TrainingLog
from cocoop.utils.files import checked_json, data_digest, read_checked_json, write_bytes

SCHEMA = 2


class PromptCard(BaseModel):
    """What a prompt file says about itself, kept in the header of the file.

    Attributes:
        weights: digest of the backbone's weights; empty where they are not known, then its sizes alone count.
        template: the zero-shot template of the dataset it was trained on.
        class_names: the classes it was trained on, in label order.
        phrases: what some of them are called in the prompts, where not by their names.
        other_names: the dataset's other classes, where the training saw their names.
        lr, loss, terms, accuracy, selected, selected_on, seconds, hidden: what happened in the training, as
            `cocoop.training.log.TrainingLog` has it.
        notes: whatever else the caller wants kept.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Annotated[int, Field(ge=SCHEMA, le=SCHEMA)] = SCHEMA
    method: str
    config: dict[str, Any]
    backbone: str
    weights: str
    template: str
    class_names: list[str]
    phrases: dict[str, list[str]] = {}
    other_names: list[str] = []
    seed: int
    lr: list[float] = []
    loss: list[float] = []
    terms: dict[str, list[float]] = {}
    accuracy: list[float] = []
    selected: dict[str, Any] = {}
    selected_on: str = ""
    seconds: float = 0.0
    hidden: dict[str, list[float]] = {}
    notes: dict[str, Any] = {}

    @property
    def log(self) -> TrainingLog:
        """What happened in the training."""
        return TrainingLog(**{each.name: getattr(self, each.name) for each in fields(TrainingLog)})


class Header(BaseModel):
    """The text in the header of a prompt file: its card, and a digest of the tensors."""

    card: PromptCard
    tensors: str


def build_method(card: PromptCard, backbone: Backbone) -> Method:
    """Build the untrained method that a card describes."""
    config = from_dict(METHODS.get(card.method).config_type, card.config)
    count = len(card.class_names)
    return build(card.method, config, backbone, template=card.template, n_classes=count, seed=card.seed)


def save_prompt(path: Path, method: Method, card: PromptCard) -> None:
    """Write the learned tensors and the card to `path`, atomically."""
    write_bytes(path, prompt_bytes(method.state_dict(), card))


def prompt_bytes(learned: Mapping[str, Tensor], card: PromptCard) -> bytes:
    """Return the content of a prompt file: the learned tensors, the card, and a digest of both."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in learned.items()}
    header = Header(card=card, tensors=data_digest(save(tensors)))
    return save(tensors, {"cocoop": checked_json(header)})  # one entry: several would have no fixed order


def load_prompt(path: str | Path, backbone: Backbone) -> tuple[Method, PromptCard]:
    """Read a prompt file back into a method on `backbone`.

    Raises:
        CocoopError: the file is damaged, of another version, or made with other weights.

    Examples:
        >>> import cocoop
        >>> from pathlib import Path
        >>> quick = {"seeds": [1], "overrides": ["coop.epochs=1"], "device": "cpu"}
        >>> records = cocoop.run("base-to-new", datasets=["emoji/food"], methods=["coop"], **quick)
        >>> (file,) = Path("runs/prompts").glob("*.safetensors")
        >>> clip = cocoop.load_backbone("tiny-clip", device="cpu")
        >>> method, card = cocoop.load_prompt(file, clip)
        >>> method.ctx.shape, card.class_names[:2], len(card.class_names)
        (torch.Size([1, 4, 128]), ['amphora', 'avocado'], 44)
        >>> classify = cocoop.Classifier(clip, method, ["any", "other", "names"])
    """
    card, tensors = read_prompt(path)
    return trained_method(card, tensors, backbone, path), card


def read_prompt(path: str | Path) -> tuple[PromptCard, dict[str, Tensor]]:
    """Return what a prompt file says about itself, and the learned tensors.

    Raises:
        CocoopError: the file is damaged, or of another version.
    """
    try:
        with safe_open(path, "pt") as file:
            header = read_checked_json(Header, (file.metadata() or {})["cocoop"].encode())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.tensors != data_digest(save(tensors)):
            raise ValueError("its tensors were changed")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CocoopError(
            f"{path} is not a readable prompt file; delete it and train again ({error})"
        ) from error
    return header.card, tensors


def trained_method(
    card: PromptCard, tensors: Mapping[str, Tensor], backbone: Backbone, source: str | Path
) -> Method:
    """Build the method that a card describes, with its learned tensors.

    Raises:
        CocoopError: they were learned with other weights, or do not fit; the message names `source`.
    """
    if card.weights and card.weights != backbone.weights_digest:
        raise CocoopError(
            f"{source} was trained with other weights of {card.backbone} than those of {backbone.name}; "
            f"load the backbone it was trained with"
        )
    method = build_method(card, backbone)
    try:
        load_learned(method, tensors)
    except RuntimeError as error:
        raise CocoopError(f"{source} does not fit {card.method} on {backbone.name}: {error}") from error
    method.eval()
    return method
