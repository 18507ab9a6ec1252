"""What `cocoop fit` is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocoop.data import DATASETS, Dataset, is_source, open_dataset
from cocoop.data.own.reading import PLAIN, Reading
from cocoop.errors import UsageError


@dataclass(frozen=True)
class FitOptions:
    """The options of `cocoop fit`.

    Attributes:
        data: whatever `open_dataset` takes.
        out: the model folder.
        shots: training images a class; a class with fewer gives all it has.
        new_classes: a text file of names, one a line, or data with images of new classes.
        names: for own data, a file with the class names.
        root: the folder of the registered datasets.
        params: of the `PromptClassifier`.
        reading: for own data, how they are to be read.
        overwrite: replace a model that is there.
        dry_run: say what would be done, and stop.
        unknown: data of images of none of the classes, or a class of the data that stands for none.
    """

    data: str
    out: Path
    shots: int
    new_classes: str | None
    names: Path | None
    root: Path | None
    params: dict[str, Any]
    reading: Reading = PLAIN
    overwrite: bool = False
    dry_run: bool = False
    unknown: str | None = None

    def open_unknown(self, data: Dataset) -> Dataset:
        """Open the data of images of none of the classes. Raises UsageError where `unknown` names none."""
        given = str(self.unknown)
        if not is_source(given) and given not in DATASETS.names():
            raise UsageError(
                f"--unknown {given} is neither a class of {data.name} nor a folder or other data"
            )
        return open_dataset(given, self.root)
