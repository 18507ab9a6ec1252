"""A model folder put on the Hub, in one commit, without what it says of the machine that it was made on."""

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cocoop.backbones.names import quiet
from cocoop.errors import CocoopError, UsageError
from cocoop.estimator.card import ModelInfo, front_matter, markdown
from cocoop.estimator.folder import INFO, PARTS, PROMPTS, README, model_files, read_model
from cocoop.estimator.pull import LARGEST, LARGEST_PROMPT, SIGN_IN, Address, is_file, refused
from cocoop.methods._parts import MARK
from cocoop.utils.display import markdown as plain
from cocoop.utils.display import reason, some

OTHERS = (".gitattributes", "LICENSE*")  # that the Hub and people put beside a model
WORDS = (
    "class_names",
    "other_names",
    "names",
    "phrases",
    "template",
)  # what a model is, whatever it looks like

# the folders of a path, where they tell of a machine: from its root, a home, a drive or a share
_PART = r"""[^\s\\/"'`]+[\\/]"""
_FOLDERS = re.compile(
    rf"""(?<![\w:/.\\-])(?:(?:~[\w.-]*|[A-Za-z]:|file:(?://)?)[\\/](?:{_PART})*|/(?:{_PART})+|\\\\(?:{_PART}){{2,}})"""
)
_LOADS = re.compile(r"""cocoop\.load\((['"]).*?\1\)""")


@dataclass(frozen=True)
class Upload:
    """What is to be put on the Hub, before it is.

    Attributes:
        place: where to.
        private: whether only its owner will see it.
        exists: whether the repository is there already.
        files: contents by name.
        there: names of the files that are there already; what is no longer used of these is removed.
        notes: what its owner should know of what it tells.
    """

    place: Address
    private: bool
    exists: bool
    files: Mapping[str, bytes]
    there: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def removed(self) -> list[str]:
        """Prompt files that are there, of an earlier model."""
        return [name for name in self.there if fnmatch(name, PROMPTS) and name not in self.files]


def prepare(folder: Path, place: Address, private: bool = False) -> Upload:
    """Return what putting a model on the Hub would upload, having looked at what is there; nothing is sent.

    Raises:
        UsageError: it is to be private, and is public already; or the repository holds something else.
        CocoopError: there is no model, nobody is signed in, or the Hub refuses or does not answer.
    """
    from huggingface_hub import get_token

    info, tensors = read_model(folder)
    if not get_token():
        raise CocoopError(f"nobody is signed in to the Hub: {SIGN_IN}, with a token that may write")
    known = _look(place)
    if known and private and not known.private:
        raise UsageError(f"{place.repository} is public already; make it private at {place.page}/settings")
    there = tuple(sibling.rfilename for sibling in known.siblings or ()) if known else ()
    others = [name for name in there if not any(fnmatch(name, part) for part in (*PARTS, *OTHERS))]
    if others and INFO not in there:
        raise UsageError(
            f"{place.repository} holds something else than a model: {some(others)}; give another name"
        )
    public, left_out = without_paths(info)
    readme, suspects = _readme(folder, public, place, left_out)
    files = {README: readme, **model_files(tensors, public)}
    for name, data in files.items():
        if len(data) > LARGEST.get(name, LARGEST_PROMPT):
            raise CocoopError(f"{name} has {len(data):,} bytes, more than would be fetched again")
    notes = (*_notes(info, public, left_out), *suspects)
    return Upload(place, known.private if known else private, bool(known), files, there, notes)


def upload(plan: Upload, message: str = "Upload a model of cocoop") -> str:
    """Put on the Hub what was planned, in one commit; return the address of its page.

    Raises:
        CocoopError: the Hub refuses or does not answer.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    _validate(plan.files[README].decode())  # before a repository is made for it
    api, place = _api(), plan.place
    changes: list[Any] = [CommitOperationAdd(name, data) for name, data in plan.files.items()]
    changes += [CommitOperationDelete(name) for name in plan.removed]
    try:
        if not plan.exists:
            api.create_repo(place.repository, private=plan.private)
        if place.revision:
            api.create_branch(place.repository, branch=place.revision, exist_ok=True)
        api.create_commit(place.repository, changes, commit_message=message, revision=place.revision)
    except Exception as error:  # of several libraries: refusals, and whatever a broken connection provokes
        raise CocoopError(f"{refused(place, error)}. Nothing of the model is there; try again") from error
    return place.page


def without_paths(info: ModelInfo) -> tuple[ModelInfo, dict[str, str]]:
    """Return what is said of a model without folders of this machine, and what stands for what now."""
    left_out: dict[str, str] = {}

    def cleaned(value: Any) -> Any:
        if isinstance(value, str):
            if (short := _FOLDERS.sub("", value)) != value:
                left_out[value] = short
            return short
        if isinstance(value, dict):
            return {key: each if key in WORDS else cleaned(each) for key, each in value.items()}
        return [cleaned(each) for each in value] if isinstance(value, list) else value

    body = info.model_dump(mode="json")
    head, _, file = info.prompt.backbone.partition("@")
    if file and "/" in head and "+" not in info.prompt.backbone:  # a file of weights that have a name
        left_out[info.prompt.backbone] = body["prompt"]["backbone"] = head
    return ModelInfo.model_validate(cleaned(body)), left_out


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(library_name="cocoop", library_version=importlib.metadata.version("cocoop"))


def _validate(readme: str) -> None:
    """Have the Hub look at the front matter. Raises CocoopError."""
    from huggingface_hub import ModelCard

    try:
        ModelCard(readme).validate()
    except ValueError as error:
        why = reason(ValueError(" ".join(str(error).split())))
        raise CocoopError(f"the front matter of {README} is not as the Hub takes it: {why}") from error
    except Exception:  # whatever keeps it from answering: the next request says it
        return


def _look(place: Address) -> Any:
    """Return what the Hub says of a repository, at its branch where there is one; None where it is not there.

    Raises:
        CocoopError: the Hub refuses or does not answer.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return _api().model_info(place.repository, revision=place.revision)
    except RevisionNotFoundError:  # a new branch starts as the main one
        return _look(Address(place.repository))
    except GatedRepoError as error:
        raise refused(place, error) from error
    except RepositoryNotFoundError:
        return None
    except Exception as error:  # of several libraries
        raise refused(place, error) from error


def _readme(
    folder: Path, info: ModelInfo, place: Address, left_out: Mapping[str, str]
) -> tuple[bytes, list[str]]:
    """Return the model card for the Hub: the folder's, whose words are its owner's, and lines to look at."""
    from huggingface_hub import ModelCard, ModelCardData

    name, before = place.repository.partition("/")[2], folder.resolve().name
    path = folder / README
    missing = front_matter(info, name).to_dict()
    try:
        with quiet():
            card = ModelCard(path.read_text("utf-8") if path.is_file() else markdown(info, name))
        if theirs := card.data.to_dict():
            missing.pop("model-index", None)  # results that they took out stay out
        data = ModelCardData(**{**missing, **theirs})
    except Exception as error:  # of the YAML reader too
        raise CocoopError(f"{path} is no model card: {reason(error)}") from error
    if data.model_name == before:
        data.model_name = name
    body = _LOADS.sub(f"cocoop.load({str(place)!r})", card.text)
    body = re.sub(rf"^# {re.escape(plain(before))}$", lambda _: f"# {plain(name)}", body, count=1, flags=re.M)
    for long, short in left_out.items():
        body = body.replace(plain(long), plain(short))
    lines = [line for line in body.splitlines() if _FOLDERS.search(line) and "](" not in line]
    suspects = [f"{README} has what looks like a path: {some(lines)}"] if lines else []
    return f"---\n{data.to_yaml()}\n---\n{body}".encode(), suspects


def _notes(info: ModelInfo, public: ModelInfo, left_out: Mapping[str, str]) -> list[str]:
    notes = (
        [f"Left out: {some([f'{long} -> {short}' for long, short in left_out.items()])}"] if left_out else []
    )
    names, phrases = len(public.prompt.class_names), len(public.prompt.phrases)
    told = [f"{names} class names", f"phrases of {phrases}" if phrases else "", "settings and versions"]
    notes.append(f"It tells: {', '.join(filter(None, told))}")
    if is_file(public.prompt.backbone):
        notes.append(
            f"Its backbone is a file, {public.prompt.backbone}, which is not uploaded: nobody can load it by "
            "its name alone"
        )
    files = {f"{key}={value}" for key, value in public.prompt.config.items() if MARK in str(value)}
    if files:
        notes.append(
            f"Its settings name a file, which is not uploaded and has to be beside it: {some(sorted(files))}"
        )
    return notes
