"""Class names in other scripts than a backbone's text tower was trained to read."""

import unicodedata
import warnings
from collections.abc import Sequence

from cocoop.backbones.clip import Backbone
from cocoop.backbones.family import FAMILIES
from cocoop.utils.display import some

ENGLISH = "English"
_said: set[str] = set()  # backbones that this was said of


def warn_of_other_scripts(backbone: Backbone, class_names: Sequence[str], stacklevel: int = 2) -> None:
    """Warn, once a backbone, of class names in another script where its text tower reads English alone."""
    if backbone.languages != ENGLISH or backbone.name in _said:
        return
    if others := [name for name in class_names if not name.isascii() and not _latin(name)]:
        _said.add(backbone.name)
        abouts = [FAMILIES.get(name).about for name in FAMILIES.names()]
        names = [about.multilingual for about in abouts if about.multilingual]
        warnings.warn(
            f"{backbone.name} was trained on English, and makes little of {some(others, 3)}. Write the names "
            f"in English, or take a multilingual backbone: {', '.join(names)}",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _latin(name: str) -> bool:
    """Whether all letters of a name are Latin."""
    return all(unicodedata.name(letter, "").startswith("LATIN") for letter in name if letter.isalpha())
