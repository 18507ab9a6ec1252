"""Images that are dropped on the page: checked, and written into the folder under names that harm nothing."""

import io
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from cocoop.data.decode import FORMATS, KINDS, decode_photo, is_image_name
from cocoop.deploy.serve.limits import Refused
from cocoop.deploy.studio.studio import Studio
from cocoop.utils.display import reason, visible
from cocoop.utils.files import write_bytes

LONGEST = 100  # characters of a file's name


def take_in(studio: Studio, files: Sequence[tuple[str, bytes]]) -> dict[str, Any]:
    """Write images into the folder; return the ids of what was added and what was there, and what is refused.

    Raises:
        Refused: the folder is read-only, or cannot be written.
    """
    if studio.folder.read_only:
        raise Refused(409, studio.folder.read_only)
    with studio.taking:
        return _take_in(studio, files)


def _take_in(studio: Studio, files: Sequence[tuple[str, bytes]]) -> dict[str, Any]:
    root, refused = studio.folder.root, []
    added: list[Path] = []
    there: list[Path] = []
    for name, data in files:
        try:
            path, fresh = _place(root, safe_name(name, _kind(data)), data)
            if fresh:
                write_bytes(path, data)
            (added if fresh else there).append(path)
        except ValueError as error:
            refused.append({"name": visible(name)[:LONGEST], "error": reason(error)})
        except OSError as error:
            raise Refused(409, f"images cannot be written to the folder: {error}") from None
    before = set(studio.folder.ids)
    ids = studio.add([*added, *there])
    return {
        "added": [each for each in ids if each not in before],
        "known": [each for each in ids if each in before],
        "refused": refused,
    }


def safe_name(name: str, kind: str) -> str:
    """Return a name for a file that any system takes, that is not hidden, and that ends as its kind does."""
    last = PurePosixPath(name.replace("\\", "/")).name
    plain = re.sub(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\ud800-\udfff]', "_", visible(last)).strip(". ")
    stem, _, ending = plain.rpartition(".")
    if not is_image_name(plain) or not stem:
        stem, ending = plain, KINDS[kind][-1].lstrip(".")
    return f"{stem[:LONGEST].strip('. ') or 'image'}.{ending}"


def _kind(data: bytes) -> str:
    """Return the kind of an image file. Raises ValueError where it is none that can be read."""
    decode_photo(data)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return image.format or "PNG"


def _place(root: Path, name: str, data: bytes) -> tuple[Path, bool]:
    """Return where a file goes, and whether it is not there already."""
    path, number = root / name, 1
    while path.exists():
        if path.is_file() and path.read_bytes() == data:
            return path, False
        number += 1
        path = root / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return path, True
