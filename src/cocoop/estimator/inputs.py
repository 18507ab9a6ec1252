"""What people pass to a classifier: images in any form, and the names of their classes."""

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from torch import Tensor

from cocoop.data.decode import ImageLike
from cocoop.errors import CocoopError, UsageError
from cocoop.utils.files import read_lines

Images = ImageLike | Sequence[ImageLike]
Names = Sequence[str] | np.ndarray


def listed(images: Images) -> list[ImageLike]:
    """Return a list of images, also for a single path or Pillow image."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 3:
        raise UsageError(
            f"a batch of images has four axes, not {tuple(images.shape)}; put one image in a list"
        )
    return list(cast(Sequence[ImageLike], images))


def check_pairs(images: Sequence[ImageLike], labels: Names) -> None:
    """Check that there are images, and as many labels. Raises UsageError."""
    if not len(images) or len(images) != len(labels):
        raise UsageError(f"{len(images)} images and {len(labels)} labels; give one label an image")


def texts(names: Names) -> list[str]:
    """Return class names as a list. Raises UsageError for a single text, and for labels that are no texts."""
    if isinstance(names, str):
        raise UsageError(f"give a list of class names, not the text {names!r}")
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"a label is the name of its class, which CLIP reads; not {name!r}")
    return [str(name) for name in names]


def read_classes(path: Path) -> tuple[str, ...]:
    """Read class names, one a line. Raises CocoopError where there are none or the file cannot be read."""
    names = tuple(dict.fromkeys(read_lines(path)))
    if not names:
        raise CocoopError(f"the file {path} holds no class names; write one a line")
    return names


class NotFittedError(UsageError, AttributeError):
    """What an unfitted classifier raises.

    Where scikit-learn is in use, it is scikit-learn's `NotFittedError` too, for those who catch that.
    """

    def __new__(cls, *arguments: object) -> "NotFittedError":
        """Return an error of both kinds, where there are both."""
        theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
        return super().__new__(_of_both_kinds(theirs) if theirs else cls, *arguments)

    def __reduce__(self) -> Any:
        """Copy and pickle it by the name it has here: the process that reads it makes the kind it needs."""
        return NotFittedError, self.args


@cache
def _of_both_kinds(theirs: type[Exception]) -> type[NotFittedError]:
    return type("NotFittedError", (NotFittedError, theirs), {"__doc__": NotFittedError.__doc__})
