"""What a docstring in Google's style says of a class."""

import inspect
import re

_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<! al)\.\s+(?=[A-Z`\"(])")


def attributes(cls: type) -> dict[str, str]:
    """Return the section "Attributes" of a docstring: what each is, on one line.

    Examples:
        >>> from cocoop.methods import Recipe
        >>> attributes(Recipe)["lr"]
        'highest learning rate.'
    """
    section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.+(?:\n     +.+)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def first_sentence(text: str) -> str:
    """Return the first sentence of a text, without its full stop."""
    return _END.split(text, maxsplit=1)[0].removesuffix(".")
