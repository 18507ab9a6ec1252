"""Data and weights inside the package, checked against their digests before they are used."""

from functools import cache
from pathlib import Path

from cocoop.errors import CocoopError
from cocoop.utils.files import file_digest

ASSETS = Path(__file__).parents[1] / "assets"
SUMS = ASSETS / "SHA256SUMS"  # `sha256sum -c SHA256SUMS` checks them too


@cache
def asset(name: str) -> Path:
    """Return the path of an embedded file, e.g. "emoji-styles/food.json".

    Raises:
        CocoopError: the file is missing or was changed since the package was built.
    """
    path = ASSETS / name
    try:
        whole = f"{file_digest(path)}  {name}" in SUMS.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise CocoopError(f"the installed file {path} is missing or damaged; install cocoop again")
    return path
