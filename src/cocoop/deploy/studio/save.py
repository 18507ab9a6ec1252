"""What a person takes away: the model, an ONNX file, the labelled images in folders, the table."""

import os
import shlex
import shutil
import tempfile
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rich.console import Console

from cocoop.data import Dataset, Item
from cocoop.data.decode import decode_photo
from cocoop.data.export import export as export_folder
from cocoop.deploy.serve.limits import Refused
from cocoop.deploy.studio.folder import LABELS, NAMES, Folder
from cocoop.deploy.studio.learned import Learned, Score
from cocoop.errors import CocoopError, UsageError

What = Literal["model", "onnx", "folder", "table"]
WHAT: tuple[What, ...] = get_args(What)
PARTS = {"model": "model", "onnx": "onnx", "folder": "images"}  # below the place for what is saved
MARK = ".cocoop-studio"  # a file in the folder of images that says who wrote it


@dataclass(frozen=True)
class Saved:
    """What was written, where, and what to do with it.

    Attributes:
        path: of it.
        command: to run with it.
        words: what it is.
    """

    path: str
    command: str
    words: str


class Saves:
    """What was saved, one thing at a time.

    Args:
        out: the folder for all of it.

    Attributes:
        done: by what it is.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.done: dict[What, Saved] = {}
        self._turn = threading.Lock()

    def save(
        self,
        what: What,
        overwrite: bool,
        folder: Folder,
        lock: AbstractContextManager[object],
        learned: Learned | None,
        scores: tuple[Score, Score] | None,
    ) -> Saved:
        """Save something.

        Args:
            what: to save.
            overwrite: whether what is there may be replaced.
            folder: of the images.
            lock: of the folder.
            learned: the model; None without one.
            scores: of the model and of zero-shot CLIP on the held-out images.

        Raises:
            Refused: something is being saved already, there is no model, or it cannot be saved.
            CocoopError: it was saved, and is not as it should be.
        """
        if not self._turn.acquire(blocking=False):
            raise Refused(409, "something is being saved; wait until it is")
        try:
            self._check_place(what, overwrite)
            if what == "table":
                with lock:
                    saved = table(folder, self.out)
            elif what == "folder":
                with lock:
                    items = labelled(folder)
                saved = save_folder(folder.root, items, self.out, overwrite)
            elif learned is None or scores is None:
                raise Refused(409, "there is no model yet; train one first")
            elif what == "onnx":
                saved = save_onnx(learned, folder.root / folder.paths[0], self.out, overwrite)
            else:
                saved = save_model(learned, *scores, folder.root, self.out, overwrite)
        except (UsageError, OSError) as error:
            raise Refused(409, str(error)) from None
        finally:
            self._turn.release()
        self.done[what] = saved
        return saved

    def _check_place(self, what: What, overwrite: bool) -> None:
        place = self.out / PARTS.get(what, "")
        if what in PARTS and not overwrite and place.exists() and (place.is_file() or any(place.iterdir())):
            raise Refused(409, f"{place} is there already; save again to replace it")


def save_model(
    learned: Learned, right: Score, zero: Score, images: Path, out: Path, overwrite: bool
) -> Saved:
    """Write a model folder, with how good the model and zero-shot CLIP are on the held-out images.

    Raises:
        UsageError: something is there.
    """
    from cocoop.estimator.card import Result

    place = out / PARTS["model"]
    measured = Result(
        name="held-out images",
        classes=len(learned.names),
        images=right.total,
        zeroshot=zero.correct,
        trained=right.correct,
    )
    learned.again().save(place, [measured] if right.total else [], overwrite)
    command = shlex.join(["cocoop", "predict", str(place), str(images)])
    return Saved(str(place), command, "The model, with its card. The command names all images of the folder.")


def save_onnx(learned: Learned, image: Path, out: Path, overwrite: bool) -> Saved:
    """Write an ONNX file with its runner, checked against the model.

    Raises:
        UsageError: something is there, or the model cannot be exported.
        CocoopError: the extra is missing, or the exported model differs.
    """
    from cocoop.deploy.onnx.export import export as export_onnx
    from cocoop.estimator import load

    place = out / PARTS["onnx"]
    with tempfile.TemporaryDirectory() as folder:
        model = learned.again()
        if model.backbone_.device.type != "cpu":
            model.save(Path(folder) / "model")
            model = load(Path(folder) / "model", device="cpu")
        export_onnx(model, None, place, Console(quiet=True), overwrite)
    command = shlex.join(["python", str(place / "run.py"), str(image)])
    return Saved(str(place), command, "The model and its names as ONNX, which runs without torch.")


def save_folder(root: Path, items: Sequence[Item], out: Path, overwrite: bool) -> Saved:
    """Copy labelled images to a folder for each name.

    Raises:
        UsageError: nothing is labelled, or something is there that may not be replaced.
        CocoopError: an image is missing.
    """
    place = out / PARTS["folder"]
    if not items:
        raise UsageError("no image is labelled yet")
    if place.exists() and not (overwrite and (place / MARK).is_file()):
        raise CocoopError(f"{place} is there already, and not from here; move it away")
    data = Dataset(root.name, "{}", root, {"labelled": tuple(items)}, decode=decode_photo)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".images.") as temp:
        new, old = Path(temp) / "new", Path(temp) / "old"
        export_folder(data, new, "labelled")
        (new / MARK).touch()
        if place.exists():
            os.replace(place, old)
        os.replace(new, place)
        shutil.rmtree(old, ignore_errors=True)
    command = shlex.join(["cocoop", "fit", str(place), "--out", str(out / PARTS["model"])])
    return Saved(str(place), command, f"{len(items)} labelled images, a folder for each name.")


def table(folder: Folder, out: Path) -> Saved:
    """Write the table and say where it is.

    Raises:
        UsageError: nothing is labelled yet.
        CocoopError: it cannot be written.
    """
    path = folder.root / LABELS
    if not (folder.labels >= 0).any():
        raise UsageError("no image is labelled yet")
    folder.write()
    words = ["cocoop", "fit", str(path)]
    words += ["--names", str(folder.root / NAMES)] if any(each.phrases for each in folder.names) else []
    command = shlex.join([*words, "--out", str(out / PARTS["model"])])
    return Saved(str(path), command, "The table of all labels, kept at every change.")


def labelled(folder: Folder) -> list[Item]:
    """Return the labelled images."""
    words, labels = folder.words(), folder.labels.tolist()
    pairs = zip(folder.paths, labels, strict=True)
    return [Item(path, label, words[label]) for path, label in pairs if label >= 0]
