"""A folder per class: which images it holds, of which class and for which use.

```
photos/cat/1.jpg          or, with a split made beforehand:      photos/train/cat/1.jpg
photos/cat/more/2.jpg                                            photos/test/cat/2.jpg
photos/dog/3.jpg
```

The first level names the class, however deep below it an image lies. A folder that holds nothing but one
folder is looked through. Beside "train", a folder of another name with the same classes in it is a further
list to test on. Hidden files are passed over, and files that are no images are counted.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cocoop.data.decode import SUFFIXES, is_image_name
from cocoop.data.own.rows import SPLITS, Row
from cocoop.errors import CocoopError

MAX_DEPTH = 100  # folders in folders
IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")


def read_folder(root: Path) -> tuple[list[Row], list[str]]:
    """Return the images under a folder, and the other files that are passed over, as paths below it.

    Raises:
        CocoopError: there are no images, no class folders or an empty one, or a link leads out of the folder.
    """
    top = root
    while len(inside := _entries(top)) == 1 and inside[0].is_dir():
        top = inside[0]
    folders = [path for path in _entries(top) if path.is_dir()]
    if not folders:
        raise CocoopError(_without_classes(root, top))
    others = [path for path in _entries(top) if not path.is_dir()]
    classes = [("", path) for path in folders]
    if _are_splits(folders):
        parts = [(_split(part), path) for part in folders for path in _entries(part)]
        classes = [(split, path) for split, path in parts if path.is_dir()]
        others += [path for _, path in parts if not path.is_dir()]
    rows, real = [], root.resolve()
    for split, folder in classes:
        images: list[Path] = []
        for path in _files(folder, real, set()):
            (images if is_image_name(path.name) else others).append(path)
        if not images:
            raise CocoopError(f"the class folder {folder} holds no images; add some or remove it")
        rows += [Row(_relative(path, root), folder.name, split) for path in images]
    return rows, [_relative(path, root) for path in others]


def list_images(folder: Path) -> list[Path]:
    """Return all images under a folder, whatever its layout. Raises CocoopError for a link out of it."""
    files = _files(folder, folder.resolve(), set())
    return [path for path in files if is_image_name(path.name)]


def _are_splits(folders: Sequence[Path]) -> bool:
    """Whether folders are the parts of a split: "train", and others of usual names or the same classes."""
    inside = {path: {each.name for each in _entries(path) if each.is_dir()} for path in folders}
    train = set().union(*(inside[path] for path in folders if _split(path) == "train"))
    return bool(train) and all(
        path.name.lower() in SPLITS or (inside[path] and inside[path] <= train) for path in folders
    )


def _split(folder: Path) -> str:
    return SPLITS.get(folder.name.lower(), folder.name)


def _files(folder: Path, root: Path, seen: set[Path], depth: int = 0) -> Iterator[Path]:
    """Yield the files below a folder; a link to a folder that was `seen` is not followed."""
    real = folder.resolve()
    if real in seen:
        return
    if depth > MAX_DEPTH:
        raise CocoopError(f"under {root}, folders lie in folders more than {MAX_DEPTH} deep; flatten them")
    seen.add(real)
    for path in _entries(folder):
        if path.is_symlink():
            _check_link(path, root)
        if path.is_dir():
            yield from _files(path, root, seen, depth + 1)
        else:
            yield path


def _entries(folder: Path) -> list[Path]:
    """List a folder in order, without what systems leave behind."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise CocoopError(f"cannot read the folder {folder}: {error}") from error
    return [folder / name for name in names if not name.startswith(".") and name not in IGNORED]


def _check_link(path: Path, root: Path) -> None:
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # what it is depends on the Python
        raise CocoopError(f"{path} is a link that leads back to itself; remove it") from None
    if not target.exists():
        raise CocoopError(f"{path} is a link to {target}, which does not exist")
    if not target.is_relative_to(root):
        raise CocoopError(f"{path} is a link that leads out of {root}; copy what it leads to")


def _relative(path: Path, root: Path) -> str:
    text = path.relative_to(root).as_posix()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CocoopError(f"the file name {text!r} under {root} is not valid UTF-8; rename it") from None
    return text


def _without_classes(root: Path, top: Path) -> str:
    files = [path for path in _entries(top) if is_image_name(path.name)]
    if files:
        return f"{len(files)} images lie directly in {top}; put them into one folder for each class"
    kinds = sorted({path.suffix.lower() for path in _entries(top)} - {""})
    others = f" (there are {', '.join(kinds[:5])} files)" if kinds else ""
    return f"there are no images in {root}{others}; read are {', '.join(SUFFIXES)}"
