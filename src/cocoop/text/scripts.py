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
    if backbone.name not in _said and (words := doubt(backbone, class_names)):
        _said.add(backbone.name)
        warnings.warn(words, UserWarning, stacklevel=stacklevel + 1)


def doubt(backbone: Backbone, class_names: Sequence[str]) -> str:
    """Say which class names are in another script where the text tower reads English alone, or nothing."""
    others = [name for name in class_names if not name.isascii() and not _latin(name)]
    if backbone.languages != ENGLISH or not others:
        return ""
    abouts = [FAMILIES.get(name).about for name in FAMILIES.names()]
    names = [about.multilingual for about in abouts if about.multilingual]
    return (
        f"{backbone.name} was trained on English, and makes little of {some(others, 3)}. Write the names "
        f"in English, or take a multilingual backbone: {', '.join(names)}"
    )


def _latin(name: str) -> bool:
    """Whether all letters of a name are Latin."""
    return all(unicodedata.name(letter, "").startswith("LATIN") for letter in name if letter.isalpha())
