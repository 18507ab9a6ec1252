"""A model folder: a prompt file with everything needed to use, judge and repeat it.

```
README.md                  the model card, in the Hub's format; yours to edit
model.json                 what the model is, how it was made, what it scored; written last
prompt-DIGEST.safetensors  the learned tensors: a prompt file, as `cocoop.training.prompt_file` has it
```

`model.json` carries a digest of itself and of the prompt file, whose name has its beginning. A model is
replaced in the moment `model.json` is, so that a crash leaves the old model or the new one.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock
from safetensors.torch import load
from torch import Tensor

from cocoop.errors import CocoopError, UsageError
from cocoop.estimator.card import ModelInfo, markdown
from cocoop.training.prompt_file import prompt_bytes
from cocoop.utils.files import checked_json, data_digest, read_checked_json, write_bytes, write_text

INFO, README = "model.json", "README.md"
PROMPTS = "prompt-*.safetensors"
PARTS = (INFO, README, PROMPTS)


def write_model(
    folder: Path,
    learned: Mapping[str, Tensor],
    info: ModelInfo,
    transferable: bool = True,
    overwrite: bool = False,
) -> None:
    """Write a model folder.

    Args:
        folder: where to.
        learned: tensors of the method.
        info: everything else.
        transferable: whether the tensors fit other class names, for the model card.
        overwrite: replace a model that is already there.

    Raises:
        UsageError: the folder holds a model or something else, or is a file.
    """
    check_place(folder, overwrite=overwrite)
    files = model_files(learned, info)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        for name, data in files.items():
            write_bytes(folder / name, data)
        write_text(folder / README, markdown(info, folder.resolve().name, transferable))
        for old in folder.glob(PROMPTS):
            if old.name not in files:
                old.unlink()


def model_files(learned: Mapping[str, Tensor], info: ModelInfo) -> dict[str, bytes]:
    """Return the files of a model but its card, by name, in the order in which they are to be written."""
    prompt = prompt_bytes(learned, info.prompt)
    info = info.model_copy(update={"learned": data_digest(prompt)})
    return {prompt_name(info): prompt, INFO: checked_json(info).encode()}


def check_place(
    folder: Path,
    mark: str = INFO,
    parts: Sequence[str] = PARTS,
    what: str = "a model",
    overwrite: bool = False,
) -> None:
    """Check that a model may be written to a folder, or something else.

    Args:
        folder: where to.
        mark: the file that is written last: what has it may be replaced where that was asked for.
        parts: patterns of the files it consists of; a crash may have left some.
        what: for messages.
        overwrite: whether what is there may be replaced.

    Raises:
        UsageError: something else is there, or the same and that was not asked for.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; {what} is a folder, give another name")
    if not folder.is_dir():
        return
    if (folder / mark).exists():
        if not overwrite:
            raise UsageError(
                f"{folder} holds {what} already; give another name, or replace it: --overwrite, "
                "overwrite=True"
            )
        return
    if not all(any(fnmatch(path.name, part) for part in (*parts, ".*")) for path in folder.iterdir()):
        raise UsageError(f"{folder} holds something else than {what}; give a new folder")


def read_model(folder: Path) -> tuple[ModelInfo, dict[str, Tensor]]:
    """Check a model folder and return what it says about itself, and the learned tensors.

    Raises:
        CocoopError: there is no model, a file is missing, edited or cut off, or the format is another.
    """
    path = folder / INFO
    if not path.is_file():
        raise CocoopError(f"{folder} is no model folder: it has no {INFO}; make one with: cocoop fit")
    try:
        content = path.read_bytes()
        info = read_checked_json(ModelInfo, content)
        path = folder / prompt_name(info)
        prompt = path.read_bytes() if path.is_file() else b""
        if data_digest(prompt) != info.learned:
            if (folder / INFO).read_bytes() != content:  # the model was replaced meanwhile
                return read_model(folder)
            raise ValueError(f"is missing or was changed or cut off since it was written (see {INFO})")
    except ValueError as error:
        raise CocoopError(f"{path} {error}; get a whole copy of the folder, or train again") from None
    return info, load(prompt)


def prompt_name(info: ModelInfo) -> str:
    """Return the name of the prompt file of a model."""
    return f"prompt-{info.learned[:16]}.safetensors"
