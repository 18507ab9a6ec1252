"""A model folder: a prompt file with everything needed to use, judge and repeat it.

```
README.md            the model card, in the Hub's format; yours to edit
model.json           what the model is, how it was made, what it scored
prompt.safetensors   the learned tensors: a prompt file, as `cocoop.model` has it
SHA256SUMS           digests of the two above, written last; `sha256sum -c SHA256SUMS` checks them
```
"""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from cocoop.backbone import Backbone
from cocoop.errors import CocoopError, UsageError
from cocoop.files import write_text
from cocoop.methods import Method
from cocoop.model import load_prompt, save_prompt
from cocoop.modelcard import SCHEMA, ModelFacts, markdown

FACTS, PROMPT, SUMS, README = "model.json", "prompt.safetensors", "SHA256SUMS", "README.md"


def write_model(folder: Path, method: Method, facts: ModelFacts) -> None:
    """Write a model folder, replacing a model that is already there.

    Raises:
        UsageError: the folder holds something else, or is a file.
    """
    check_place(folder)
    save_prompt(folder / PROMPT, method, facts.prompt)
    write_text(folder / FACTS, facts.model_dump_json(indent=2) + "\n")
    write_text(folder / README, markdown(facts, folder.resolve().name))
    sums = [f"{_sha256(folder / name)}  {name}\n" for name in (FACTS, PROMPT)]
    write_text(folder / SUMS, "".join(sums))


def check_place(folder: Path, mark: str = FACTS, what: str = "a model") -> None:
    """Check that a model may be written to a folder, or whatever the file `mark` is the sign of.

    Raises:
        UsageError: something else is there.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; {what} is a folder, give another name")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).exists():
        raise UsageError(f"{folder} holds something else than {what}; give a new folder")


def read_facts(folder: Path) -> ModelFacts:
    """Check a model folder against its digests and return what it says about itself.

    Raises:
        CocoopError: there is no model, a file is missing, edited or cut off, or the format is another.
    """
    if not (folder / FACTS).is_file():
        raise CocoopError(f"{folder} is no model folder: it has no {FACTS}; make one with: cocoop fit")
    _check_sums(folder)
    try:
        facts = ModelFacts.model_validate_json((folder / FACTS).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CocoopError(
            f"{folder / FACTS} is not of this version of cocoop ({where}: {first['msg']})"
        ) from None
    if facts.schema_version != SCHEMA:
        raise CocoopError(f"{folder} has format {facts.schema_version}, this version reads {SCHEMA}")
    return facts


def read_method(folder: Path, backbone: Backbone) -> Method:
    """Return the trained method of a model folder. Raises CocoopError where the backbone is another."""
    method, _ = load_prompt(folder / PROMPT, backbone)
    return method


def _check_sums(folder: Path) -> None:
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {name: sha for sha, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise CocoopError(f"{folder / SUMS} is missing or damaged: {error}; get a whole copy") from None
    for name in (FACTS, PROMPT):
        path = folder / name
        if not path.is_file() or _sha256(path) != sums.get(name):
            raise CocoopError(
                f"{path} is missing or was edited or cut off since it was written (its digest is not the one "
                f"in {SUMS}); get a whole copy of the folder, or train again"
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
