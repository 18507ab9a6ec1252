"""A folder per class: which images it holds, of which class and for which use.

```
photos/cat/1.jpg          or, with a split made beforehand:      photos/train/cat/1.jpg
photos/cat/more/2.jpg                                            photos/test/cat/2.jpg
photos/dog/3.jpg
```

The first level names the class, however deep below it an image lies. A folder that holds nothing but one
folder is looked through. Beside "train", a folder of another name with the same classes in it is a further
list to test on. Hidden files are passed over; files that are no images, or of no class, are counted.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cocoop.data.decode import SUFFIXES, UNREAD, is_image_name, needs
from cocoop.data.own.reading import Found, Row
from cocoop.data.own.rows import SPLITS
from cocoop.errors import CocoopError

MAX_DEPTH = 100  # folders in folders
IGNORED = ("__MACOSX", "Thumbs.db", "desktop.ini")


def read_folder(root: Path) -> Found:
    """Return the images under a folder, and what is said of the other files that are passed over.

    Raises:
        CocoopError: there are no images, no class folders or an empty one, or a link leads out of the folder.
    """
    top, real = look_through(root), root.resolve()
    folders = folders_in(top, real)
    if not folders:
        raise CocoopError(_without_classes(root, top))
    others = [path for path in entries(top) if not path.is_dir()]
    classes = [("", path) for path in folders]
    if _are_splits(folders):
        parts = [(split_of(part), path) for part in folders for path in entries(part)]
        classes = [(split, path) for split, path in parts if path.is_dir()]
        others += [path for _, path in parts if not path.is_dir()]
    loose = [path for path in others if is_image_name(path.name)]
    others = [path for path in others if not is_image_name(path.name)]
    rows = []
    for split, folder in classes:
        if folder.is_symlink():
            _check_link(folder, real)
        images: list[Path] = []
        for path in _files(folder, real, set()):
            (images if is_image_name(path.name) else others).append(path)
        if not images:
            kinds = _kinds([path for path in others if path.is_relative_to(folder)])
            raise CocoopError(f"the class folder {folder} holds no images{kinds}; add some or remove it")
        rows += [Row(relative(path, root), folder.name, split) for path in images]
    notes, warnings = passed_over([relative(path, root) for path in others])
    return Found(rows, notes, (*warnings, *_outside([relative(path, root) for path in loose])))


def list_images(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return all images under a folder, whatever its layout, and warnings of images that are not read.

    Raises CocoopError for a link out of it.
    """
    files = list(_files(folder, folder.resolve(), set()))
    images = [path for path in files if is_image_name(path.name)]
    return images, passed_over([str(path) for path in files if not is_image_name(path.name)])[1]


def passed_over(others: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is said of files that are passed over: notes, and warnings of images of other kinds."""
    kinds = Counter(suffix for path in others if (suffix := Path(path).suffix.lower()) in UNREAD)
    rest = [path for path in others if Path(path).suffix.lower() not in UNREAD]
    first = ", ".join(rest[:3]) + (", ..." if len(rest) > 3 else "")
    notes = (f"passed over {len(rest)} file(s) that are no images: {first}",) if rest else ()
    if not kinds:
        return notes, ()
    counted = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(kinds.items()))
    return notes, (
        f"passed over {kinds.total():,} image(s) of kinds that are not read: {counted}{needs(kinds)}",
    )


def look_through(root: Path) -> Path:
    """Return the first folder below that holds more than one folder."""
    top, real = root, root.resolve()
    while len(inside := entries(top)) == 1 and inside[0].is_dir():
        top = inside[0]
        if top.is_symlink():
            _check_link(top, real)
    return top


def folders_in(top: Path, real: Path) -> list[Path]:
    """Return the folders in a folder. Raises CocoopError for a link that leads out of `real`."""
    folders = [path for path in entries(top) if path.is_dir()]
    for path in folders:
        if path.is_symlink():
            _check_link(path, real)
    return folders


def split_of(folder: Path) -> str:
    """Return the split that a folder is called after, or its name."""
    return SPLITS.get(folder.name.lower(), folder.name)


def entries(folder: Path) -> list[Path]:
    """List a folder in order, without what systems leave behind."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise CocoopError(f"cannot read the folder {folder}: {error}") from error
    return [folder / name for name in names if not name.startswith(".") and name not in IGNORED]


def relative(path: Path, root: Path) -> str:
    """Return a path below a folder. Raises CocoopError for a name that is no text."""
    text = path.relative_to(root).as_posix()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CocoopError(f"the file name {text!r} under {root} is not valid UTF-8; rename it") from None
    return text


def _are_splits(folders: Sequence[Path]) -> bool:
    """Whether folders are the parts of a split: "train", and others of usual names or the same classes."""
    inside = {path: {each.name for each in entries(path) if each.is_dir()} for path in folders}
    train = set().union(*(inside[path] for path in folders if split_of(path) == "train"))
    return bool(train) and all(
        path.name.lower() in SPLITS or (inside[path] and inside[path] <= train) for path in folders
    )


def _files(folder: Path, root: Path, seen: set[Path], depth: int = 0) -> Iterator[Path]:
    """Yield the files below a folder; a link to a folder that was `seen` is not followed."""
    real = folder.resolve()
    if real in seen:
        return
    if depth > MAX_DEPTH:
        raise CocoopError(f"under {root}, folders lie in folders more than {MAX_DEPTH} deep; flatten them")
    seen.add(real)
    for path in entries(folder):
        if path.is_symlink():
            _check_link(path, root)
        if path.is_dir():
            yield from _files(path, root, seen, depth + 1)
        else:
            yield path


def _check_link(path: Path, root: Path) -> None:
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # what it is depends on the Python
        raise CocoopError(f"{path} is a link that leads back to itself; remove it") from None
    if not target.exists():
        raise CocoopError(f"{path} is a link to {target}, which does not exist")
    if not target.is_relative_to(root):
        raise CocoopError(f"{path} is a link that leads out of {root}; copy what it leads to")


def _outside(loose: Sequence[str]) -> tuple[str, ...]:
    """Warn of images beside the class folders, which are of no class."""
    if not loose:
        return ()
    first = ", ".join(loose[:3]) + (", ..." if len(loose) > 3 else "")
    return (f"passed over {len(loose):,} image(s) that lie in no class folder: {first}",)


def _without_classes(root: Path, top: Path) -> str:
    files = [path for path in entries(top) if is_image_name(path.name)]
    if files:
        return (
            f"{len(files)} images lie directly in {top}; put them into one folder for each class, add a "
            "table (labels.csv with the columns path and label), or say --labels-from names where the names "
            "of the files begin with their classes"
        )
    kinds = sorted({path.suffix.lower() for path in entries(top)} - {""})
    others = f" (there are {', '.join(kinds[:5])} files{needs(kinds)})" if kinds else ""
    return f"there are no images in {root}{others}; read are {', '.join(SUFFIXES)}"


def _kinds(others: Sequence[Path]) -> str:
    _, warnings = passed_over([path.name for path in others])
    return f" ({warnings[0]})" if warnings else ""
