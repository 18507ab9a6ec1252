"""What people pass to a classifier: images in any form, and the names of their classes."""

import os
import sys
from collections.abc import Sequence
from typing import cast

import numpy as np
from PIL import Image
from torch import Tensor

from cocoop.data.photos import ImageLike
from cocoop.errors import UsageError

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


class NotFittedError(UsageError, AttributeError):
    """What an unfitted classifier raises; scikit-learn's own error of this name too, where it is in use."""


def not_fitted(message: str) -> NotFittedError:
    """Return the error for a classifier that is asked before it is fitted."""
    theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
    if theirs is None:
        return NotFittedError(message)
    kind: type[NotFittedError] = type("NotFittedError", (NotFittedError, theirs), {})
    return kind(message)
