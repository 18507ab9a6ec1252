"""The backbone of a studio: chosen and loaded while the page is there already, and what is said of it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cocoop.data import Dataset, Item
from cocoop.data.decode import decode_photo
from cocoop.data.own.source import TEMPLATE
from cocoop.deploy.serve.limits import DEFAULT, Limits
from cocoop.errors import in_words
from cocoop.utils.display import reason

if TYPE_CHECKING:  # the page is there before torch is loaded
    from cocoop.backbones.clip import Backbone

AUTO = "auto"  # what can be had here
WARNING = "warning: "  # what a line begins with that a person should know


@dataclass(frozen=True)
class Options:
    """How a folder is opened.

    Attributes:
        out: where models and copies are saved.
        backbone: its name; "auto" for what can be had here.
        template: the zero-shot prompt, with `{}` for the class name.
        device: where the backbone is put.
        precision: of it.
        memory_budget: bytes for the text encoder; None for what the machine allows.
        limits: what is refused.
    """

    out: Path
    backbone: str = AUTO
    template: str = TEMPLATE
    device: str = AUTO
    precision: str = AUTO
    memory_budget: int | None = None
    limits: Limits = DEFAULT


class Loading:
    """How the backbone is loaded, and what was said of it.

    Args:
        root: the folder of the images.
        options: which backbone, and where.

    Attributes:
        warning: what a person should know, or "".
        error: why there is none, or "".
    """

    def __init__(self, root: Path, options: Options) -> None:
        self.warning = self.error = ""
        self._root = root
        self._options = options
        self._said = io.StringIO()
        self._looked = False  # whether there were images to see if they are photographs

    @property
    def doing(self) -> str:
        """What was said last, such as that the backbone is fetched."""
        return self._said.getvalue().strip().rpartition("\n")[2]

    def load(self, paths: Sequence[str]) -> "Backbone | None":
        """Return the backbone for images; None where it cannot be had, as `error` says then."""
        options, self._looked = self._options, bool(paths)
        try:
            from cocoop.estimator.backbone import backbone_for

            data, console = self._data(paths), Console(file=self._said, width=10_000)
            clip = backbone_for(options.backbone, data, options.device, options.precision, console)
        except Exception as error:
            self.error = in_words(error) or reason(error)
            return None
        self._take(self._said)
        return clip

    def look(self, clip: "Backbone", paths: Sequence[str]) -> None:
        """Look whether the first images of a folder that was empty are of a kind that it does not know."""
        from cocoop.backbones.pretrained import SHIPPED
        from cocoop.data.drawn import are_photographs
        from cocoop.estimator.backbone import unknown_to_it, warn

        if self._looked or not paths:
            return
        self._looked, said, data = True, io.StringIO(), self._data(paths)
        if clip.name in SHIPPED:
            warn(unknown_to_it(clip.name, are_photographs(data)), Console(file=said, width=10_000))
            self._take(said)

    def _take(self, said: io.StringIO) -> None:
        lines = [line for line in said.getvalue().splitlines() if line.startswith(WARNING)]
        self.warning = " ".join(filter(None, [self.warning, *(line.removeprefix(WARNING) for line in lines)]))

    def _data(self, paths: Sequence[str]) -> Dataset:
        items = tuple(Item(path, 0, "") for path in paths)
        return Dataset(self._root.name, TEMPLATE, self._root, {"test": items}, decode=decode_photo)
