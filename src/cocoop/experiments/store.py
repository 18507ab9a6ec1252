"""A run folder: one JSON record a finished cell, trained prompts and predictions beside them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from cocoop.errors import CocoopError
from cocoop.experiments.cell import Cell, Training
from cocoop.experiments.claims import Claims
from cocoop.experiments.record import SCHEMA, Predictions, Record
from cocoop.utils.files import (
    checked_json,
    data_digest,
    read_checked_json,
    write_bytes,
    write_json,
    write_text,
)

if TYPE_CHECKING:  # what needs torch is imported where it is used: tables are made of records alone
    from torch import Tensor

    from cocoop.backbones.clip import Backbone
    from cocoop.methods import Method
    from cocoop.training.checkpoint import Checkpoint
    from cocoop.training.prompt_file import PromptCard


class Store:
    """Reads and writes one run folder.

    Args:
        folder: made when something is first written.

    Attributes:
        claims: on the cells without a record.

    Raises:
        CocoopError: the folder holds runs of another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.claims = Claims(folder)
        self._check_format()

    def has(self, cell: Cell) -> bool:
        """Whether a cell is finished: its record exists."""
        return self._record_path(cell).exists()

    def write(self, record: Record, top: "dict[str, Tensor]") -> Record:
        """Store a finished cell; return its record, which is written last, with the predictions' digest."""
        from safetensors.torch import save

        if not (self.folder / "format.json").exists():
            write_json(self.folder / "format.json", {"cocoop_runs": SCHEMA})
        predictions = save(top)
        write_bytes(self._predictions_path(record.cell), predictions)
        record = record.model_copy(update={"predictions": data_digest(predictions)})
        write_text(self._record_path(record.cell), checked_json(record))
        return record

    def records(self) -> Iterator[Record]:
        """Yield all records.

        Raises:
            CocoopError: a record cannot be read.
        """
        for path in sorted((self.folder / "records").glob("*/*/*.json")):
            try:
                record = read_checked_json(Record, path.read_bytes())
                if path != self._record_path(record.cell):
                    raise ValueError("is the record of another cell")
                yield record
            except ValueError as error:
                raise CocoopError(f"{path} {error}; delete it and run again: {self._command()}") from None

    def predictions(self, record: Record) -> Predictions:
        """Return what was predicted for every test image. Raises CocoopError for a damaged file."""
        from safetensors.torch import load

        path = self._predictions_path(record.cell)
        try:
            data = path.read_bytes()
            if data_digest(data) != record.predictions:
                raise ValueError("another digest")
            top = load(data)
            return Predictions(top["classes"].long(), top["probabilities"].float(), top["labels"].long())
        except (OSError, ValueError, SafetensorError, KeyError) as error:
            gone = self._record_path(record.cell)
            raise CocoopError(f"{path} is missing or damaged; delete {gone} and run again") from error

    def prompt(self, training: Training, backbone: "Backbone") -> "tuple[Method, PromptCard]":
        """Return a trained prompt. Raises CocoopError where the file is damaged, or of another training."""
        from cocoop.training.prompt_file import load_prompt

        path = self.prompt_path(training)
        method, card = load_prompt(path, backbone)
        try:
            key = Training.model_validate(card.notes.get("training")).key
        except ValueError:
            key = ""
        if key != training.key:
            raise CocoopError(f"{path} is the prompt of another training; delete it and train again")
        return method, card

    def prompt_path(self, training: Training) -> Path:
        """Where a trained prompt is, or would be; a label is only a name and plays no part."""
        return self.folder / "prompts" / f"{_slug(training.method)}-{training.key}.safetensors"

    def checkpoint(self, training: Training) -> "Checkpoint":
        """Return where the unfinished fit of a training stands."""
        from cocoop.training.checkpoint import Checkpoint

        return Checkpoint(self.prompt_path(training).with_suffix(".unfinished"), training.key)

    def settled(self, cell: Cell) -> bool:
        """Whether nothing is left to do for a cell: it is finished, or it was tried and failed."""
        return self.has(cell) or self.claims.failure(cell) is not None

    def _record_path(self, cell: Cell) -> Path:
        train, test = cell.training, cell.testing
        stem = f"{_slug(train.label)}-seed{train.seed}-{test.subset}-{test.split}-{cell.key}.json"
        return self.folder / "records" / cell.protocol / _slug(test.dataset) / stem

    def _predictions_path(self, cell: Cell) -> Path:
        return self.folder / "predictions" / f"{cell.key}.safetensors"

    def _check_format(self) -> None:
        path = self.folder / "format.json"
        if self.folder.exists() and not self.folder.is_dir():
            raise CocoopError(f"{self.folder} is a file; a run folder is needed")
        if not path.exists():
            return
        try:
            version: Any = json.loads(path.read_text()).get("cocoop_runs")
        except (ValueError, AttributeError):
            version = "unreadable"
        if version != SCHEMA:
            raise CocoopError(
                f"{self.folder} holds runs of format {version}, this version of cocoop has {SCHEMA}; report "
                f"it with the version that wrote it, or run again into another folder: "
                + re.sub(r" --out[ =]\S+", "", self._command())
                + f" --out {self.folder}-{SCHEMA}"
            )

    def _command(self) -> str:
        """Return a command that asked for cells of this folder."""
        commands = [request.command for request in self.claims.requests() if request.command]
        return commands[0] if commands else f"cocoop run PROTOCOL --out {self.folder}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")
